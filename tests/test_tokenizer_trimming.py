"""Each kind of tokenizer cuts texts of kept pieces as before; what it cannot do without stays."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from edgefold.errors import InputError
from edgefold.vocabulary.tokenizers import close_pieces, pieces_of, read_state, trim_tokenizer

CORPUS = ["low lower lowest new newer newest", "wide wider widest new low", "slow slower glow"] * 3
SPECIAL = ["<pad>", "<unk>", "</s>"]


def trained(model: Any, trainer: Any, pre_tokenizer: Any) -> Any:
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizer
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", backend.token_to_id("</s>"))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


MAKERS: dict[str, Callable[[], Any]] = {
    "WordPiece": lambda: trained(
        models.WordPiece(unk_token="<unk>"),
        trainers.WordPieceTrainer(vocab_size=60, special_tokens=SPECIAL),
        pre_tokenizers.Whitespace(),
    ),
    "WordLevel": lambda: trained(
        models.WordLevel(unk_token="<unk>"),
        trainers.WordLevelTrainer(special_tokens=SPECIAL),
        pre_tokenizers.Whitespace(),
    ),
    "BPE": lambda: trained(
        models.BPE(unk_token="<unk>"),
        trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL),
        pre_tokenizers.Whitespace(),
    ),
    "BPE with prefixes": lambda: trained(
        models.BPE(unk_token="<unk>", continuing_subword_prefix="##"),
        trainers.BpeTrainer(vocab_size=60, special_tokens=SPECIAL, continuing_subword_prefix="##"),
        pre_tokenizers.Whitespace(),
    ),
    "Unigram": lambda: trained(
        models.Unigram(),
        trainers.UnigramTrainer(vocab_size=40, special_tokens=SPECIAL, unk_token="<unk>"),
        pre_tokenizers.Metaspace(),
    ),
}
TOKENIZERS = {name: make() for name, make in MAKERS.items()}
words = st.lists(st.sampled_from([*" ".join(CORPUS).split(), "slowest", "glower", "xyz"]), min_size=1, max_size=6)


@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=20, deadline=None)
@given(known=words, data=st.data())
def test_texts_of_kept_pieces_are_cut_as_before(kind: str, known: list[str], data: st.DataObject) -> None:
    tokenizer, text = TOKENIZERS[kind], " ".join(known)
    ids = set(tokenizer(text)["input_ids"])
    more = data.draw(st.sets(st.sampled_from(sorted(pieces_of(read_state(tokenizer)).values()))))
    trimmed = trim_tokenizer(tokenizer, close_pieces(read_state(tokenizer), ids | more))
    pieces = [t.convert_ids_to_tokens(t(text)["input_ids"]) for t in (tokenizer, trimmed)]
    assert pieces[0] == pieces[1]
    assert len(trimmed) <= len(tokenizer)


def test_what_is_merged_on_the_way_to_a_piece_stays() -> None:
    tokenizer = TOKENIZERS["BPE"]
    kept = close_pieces(read_state(tokenizer), [tokenizer.convert_tokens_to_ids("lower")])
    trimmed = trim_tokenizer(tokenizer, kept)
    assert trimmed.tokenize("lower") == ["lower"]
    assert len(trimmed) == len(kept) < len(tokenizer)
    merges = json.loads(trimmed.backend_tokenizer.to_str())["model"]["merges"]
    assert len(merges) == len(kept) - len(SPECIAL) - len(set("lower"))


def test_special_and_added_tokens_stay_in_their_order() -> None:
    tokenizer = MAKERS["WordPiece"]()
    tokenizer.add_tokens(["<new>"])
    trimmed = trim_tokenizer(tokenizer, close_pieces(read_state(tokenizer), []))
    assert trimmed.get_vocab() == {"<pad>": 0, "<unk>": 1, "</s>": 2, "<new>": 3}
    assert trimmed("low <new>")["input_ids"] == [1, 3, 2]
    assert (trimmed.pad_token_id, trimmed.eos_token_id) == (0, 2)
    assert len(tokenizer) > 20


def test_another_kind_is_refused() -> None:
    class Backend:
        def to_str(self) -> str:
            return '{"model": {"type": "Syllables"}}'

    class Odd:
        backend_tokenizer = Backend()

    with pytest.raises(InputError, match="of kind Syllables cannot be trimmed; these can: WordPiece, WordLevel, Unig"):
        read_state(Odd())
