"""SentencePairCollator: batches for pre-training on masked tokens together with a question about two segments.

The loss that belongs to it is the model's own, L_MLM + L_pair (BertForPreTraining, AlbertForPreTraining); with
Objective(task=1, logits=0, hidden=0, l1=..., l2=...) a student learns under L_MLM + L_pair + l1 |w|_1 + l2 |w|_2^2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DataCollatorForLanguageModeling

from edgefold.errors import InputError

PairKind = Literal["nsp", "sop"]
PAIR_LABELS = {"nsp": "next_sentence_label", "sop": "sentence_order_label"}
"""The keyword of forward that takes a pair's label: 0 where the second segment follows the first."""


@dataclass
class SentencePairCollator:
    """Blocks of tokens -> [CLS] A [SEP] B [SEP] with masked tokens and the pair's label.

    Each block is cut in two, all blocks of a batch at one random place in their middle half. For one half of the rows
    the label stays 0; for the other it is 1 and
    "nsp": B is that of another row of the batch (next sentence prediction; Devlin et al., 2019),
    "sop": B comes before A (sentence order prediction; Lan et al., 2020).
    Of the tokens `mask_share` are to be predicted: 80 % of them are masked, 10 % replaced at random, 10 % kept.

    Args:
        tokenizer: with [CLS], [SEP] and [MASK], as BERT's and ALBERT's.

    Raises:
        InputError: the tokenizer lacks one of these.
    """

    tokenizer: Any
    kind: PairKind
    mask_share: float = 0.15
    _mask: "MaskingCollator" = field(init=False)

    def __post_init__(self) -> None:
        self._mask = masking_collator(self.tokenizer, self.mask_share)

    def __call__(self, rows: Sequence[Any]) -> dict[str, Tensor]:
        """rows: {"input_ids": a block without special tokens}, all of one length and at least 2 rows for "nsp".

        Returns input_ids, attention_mask, token_type_ids and labels, (rows, length + 3), and the pair's label, (rows,).
        """
        blocks = torch.tensor([row["input_ids"] for row in rows])
        count, length = blocks.shape
        place = int(torch.randint(length // 4, max(length // 4, 3 * length // 4) + 1, ()))
        first, second = blocks[:, : max(place, 1)], blocks[:, max(place, 1) :]
        is_odd = torch.rand(count) < 0.5
        pairs = [
            self._pair(first, second, row, bool(odd), int(torch.randint(1, max(count, 2), ())))
            for row, odd in enumerate(is_odd)
        ]
        if self.kind == "nsp" and count == 1:
            is_odd = torch.zeros_like(is_odd)
        batch = dict(self._mask([self._framed(a, b) for a, b in pairs]))
        return {**batch, PAIR_LABELS[self.kind]: is_odd.long()}

    def _pair(self, first: Tensor, second: Tensor, row: int, is_odd: bool, step: int) -> tuple[Tensor, Tensor]:
        if not is_odd:
            return first[row], second[row]
        if self.kind == "sop":
            return second[row], first[row]
        return first[row], second[(row + step) % len(second)]

    def _framed(self, a: Tensor, b: Tensor) -> dict[str, list[int]]:
        begin, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        ids = [begin, *a.tolist(), end, *b.tolist(), end]
        return {
            "input_ids": ids,
            "attention_mask": [1] * len(ids),
            "token_type_ids": [0] * (len(a) + 2) + [1] * (len(b) + 1),
        }


class MaskingCollator(DataCollatorForLanguageModeling):
    """Masks tokens, at least one of each row that has any besides special ones, as BERT's own data do.

    A batch with nothing to predict has no mean loss: 0 / 0.
    """

    def torch_mask_tokens(
        self, inputs: Any, special_tokens_mask: Any = None, offset_mapping: Any = None
    ) -> tuple[Tensor, Tensor]:
        """inputs: (rows, length), changed in place -> inputs and labels, -100 where nothing is to be predicted."""
        original = inputs.clone()
        if special_tokens_mask is None:
            special_tokens_mask = torch.tensor(
                [
                    self.tokenizer.get_special_tokens_mask(row, already_has_special_tokens=True)
                    for row in inputs.tolist()
                ]
            )
        inputs, labels = super().torch_mask_tokens(inputs, special_tokens_mask, offset_mapping)
        is_free = ~special_tokens_mask.bool()
        is_left_out = (labels < 0).all(dim=1) & is_free.any(dim=1)
        for row in is_left_out.nonzero().flatten().tolist():
            places = is_free[row].nonzero().flatten()
            place = places[torch.randint(len(places), ())]
            labels[row, place] = original[row, place]
            inputs[row, place] = self.tokenizer.mask_token_id
        return inputs, labels


def masking_collator(tokenizer: Any, mask_share: float = 0.15) -> MaskingCollator:
    """Masks `mask_share` of the tokens: 80 % by [MASK], 10 % by a random token, 10 % kept (Devlin et al., 2019).

    Raises:
        InputError: the tokenizer has no token for the mask, the beginning or the end.
    """
    missing = [name for name in ("mask_token", "cls_token", "sep_token") if getattr(tokenizer, name, None) is None]
    if missing:
        raise InputError(
            f"{type(tokenizer).__name__} has no {', '.join(missing)}; masked language modeling needs the tokenizer "
            "of a model such as BERT."
        )
    return MaskingCollator(tokenizer, mlm_probability=mask_share, mask_replace_prob=0.8, random_replace_prob=0.1)
