"""Batches for pre-training: what is masked and how, and that the label of a pair says how it was made."""

from typing import Any

import pytest
import torch
from task_jobs import make_tokenizer

from edgefold.errors import InputError
from edgefold.pretraining import SentencePairCollator, masking_collator

pytestmark = pytest.mark.filterwarnings("ignore")
BLOCKS = [{"input_ids": [7 + (i + k) % 12 for k in range(13)]} for i in range(12)]
"""Every block a cycle over the words, each with another beginning: one can tell what follows what."""


def unmasked(batch: dict[str, Any]) -> torch.Tensor:
    return torch.where(batch["labels"] >= 0, batch["labels"], batch["input_ids"])


def parts(row: list[int]) -> tuple[list[int], list[int]]:
    first = row.index(3)
    return row[1:first], row[first + 1 : -1]


@pytest.mark.parametrize(("kind", "label"), [("nsp", "next_sentence_label"), ("sop", "sentence_order_label")])
def test_labels_say_how_pairs_were_made(kind: Any, label: str) -> None:
    torch.manual_seed(0)
    collate = SentencePairCollator(make_tokenizer(), kind)
    whole = [block["input_ids"] for block in BLOCKS]
    seen = []
    for _ in range(30):
        batch = collate(BLOCKS)
        assert batch["input_ids"].shape == batch["token_type_ids"].shape == batch["labels"].shape == (12, 16)
        for row, (ids, odd) in enumerate(zip(unmasked(batch).tolist(), batch[label].tolist(), strict=True)):
            a, b = parts(ids)
            assert (ids[0], ids[-1]) == (2, 3)
            assert batch["token_type_ids"][row].tolist() == [0] * (len(a) + 2) + [1] * (len(b) + 1)
            if kind == "sop":
                assert (b + a if odd else a + b) == whole[row]
            else:
                assert (a + b == whole[row]) == (not odd)
                assert any(b == other[len(a) :] for other in whole)
            seen.append(odd)
    assert 0.4 < sum(seen) / len(seen) < 0.6


def test_a_single_row_has_no_other_to_be_paired_with() -> None:
    torch.manual_seed(0)
    collate = SentencePairCollator(make_tokenizer(), "nsp")
    assert {int(collate(BLOCKS[:1])["next_sentence_label"]) for _ in range(20)} == {0}


def test_of_the_masked_tokens_eight_in_ten_are_hidden() -> None:
    """15 % of the tokens are chosen, 80 % of them hidden, 10 % replaced; special tokens never are. Three sigma."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    rows = [{"input_ids": [2, *[7 + (i + k) % 12 for k in range(60)], 3]} for i in range(400)]
    original = torch.tensor([row["input_ids"] for row in rows])
    batch = masking_collator(tokenizer)(rows)
    chosen = batch["labels"] >= 0
    assert not chosen[:, [0, -1]].any()
    assert torch.equal(batch["labels"][chosen], original[chosen])
    assert torch.equal(batch["input_ids"][~chosen], original[~chosen])
    assert float(chosen[:, 1:-1].float().mean()) == pytest.approx(0.15, abs=0.01)
    hidden = batch["input_ids"][chosen] == tokenizer.mask_token_id
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.03)
    kept = batch["input_ids"][chosen] == original[chosen]
    assert float(kept.float().mean()) == pytest.approx(0.1 + 0.1 / len(tokenizer), abs=0.02)


def test_every_row_has_something_to_predict() -> None:
    """Rows of one to three words, of which 15 % each would leave most without; a row of special tokens stays as is."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    rows = [{"input_ids": [2, *range(7, 8 + index % 3), *[0] * (2 - index % 3), 3]} for index in range(60)]
    rows.append({"input_ids": [2, 0, 0, 0, 3]})
    original = torch.tensor([row["input_ids"] for row in rows])
    batch = masking_collator(tokenizer)(rows)
    chosen = batch["labels"] >= 0
    assert chosen[:-1].any(dim=1).all()
    assert not chosen[-1].any()
    assert torch.equal(batch["labels"][chosen], original[chosen])
    assert torch.equal(batch["input_ids"][~chosen], original[~chosen])
    assert not chosen[original < 7].any()


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(InputError, match=r"has no mask_token; masked language modeling needs the tokenizer of"):
        SentencePairCollator(tokenizer, "sop")
