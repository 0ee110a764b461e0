"""Laws of a trimmed vocabulary: the same pieces and the same outputs for every text whose tokens were kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from edgefold.checkpoints import save_student
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import Plan, Project
from edgefold.student_building import build_student
from edgefold.vocabulary.trimming import trim_vocabulary, used_tokens

pytestmark = pytest.mark.filterwarnings("ignore")
WORDS = ["the", "cat", "##s", "sat", "un", "##able", "##a", "low", "##er", "dog", "sofa"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXTS = ["the cats sat", "unable dog"]
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 64,
}


@pytest.fixture
def wordpiece() -> Any:
    """Its special tokens stand last, so that their ids change."""
    return BertTokenizer(vocab={piece: index for index, piece in enumerate([*WORDS, *SPECIAL])})


def encode(tokenizer: Any, texts: list[str]) -> dict[str, Tensor]:
    encoded = tokenizer(texts, return_tensors="pt", padding=True)
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def check_pieces(before: Any, after: Any, texts: list[str]) -> None:
    cut = [[t.convert_ids_to_tokens(row) for row in t(texts)["input_ids"]] for t in (before, after)]
    assert cut[0] == cut[1]


def kept_columns(before: Any, after: Any) -> list[int]:
    return [int(before.convert_tokens_to_ids(after.convert_ids_to_tokens(index))) for index in range(len(after))]


def test_a_trimmed_classifier_gives_the_same_logits(make_bert: Callable[..., Any], wordpiece: Any) -> None:
    teacher = make_bert(vocab_size=16, pad_token_id=wordpiece.pad_token_id)
    model, tokenizer = trim_vocabulary(teacher, wordpiece, used_tokens(wordpiece, TEXTS))
    check_pieces(wordpiece, tokenizer, TEXTS)
    expected = teacher(**encode(wordpiece, TEXTS)).logits
    torch.testing.assert_close(model(**encode(tokenizer, TEXTS)).logits, expected, rtol=0, atol=1e-12)
    config: Any = model.config
    assert (len(wordpiece), len(tokenizer), config.vocab_size, teacher.config.vocab_size) == (16, 12, 12, 16)
    assert config.pad_token_id == tokenizer.pad_token_id == 7
    assert model.get_submodule("bert.embeddings.word_embeddings").padding_idx == 7
    assert tokenizer.tokenize("sofa lower") == ["[UNK]", "[UNK]"]


def test_tied_heads_lose_the_same_rows(wordpiece: Any) -> None:
    torch.manual_seed(0)
    teacher = BertForMaskedLM(BertConfig(vocab_size=16, pad_token_id=11, **SIZES)).double().eval()
    model: Any
    model, tokenizer = trim_vocabulary(teacher, wordpiece, used_tokens(wordpiece, TEXTS))
    expected = teacher(**encode(wordpiece, TEXTS)).logits[..., kept_columns(wordpiece, tokenizer)]
    torch.testing.assert_close(model(**encode(tokenizer, TEXTS)).logits, expected, rtol=0, atol=1e-12)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


@pytest.fixture
def byte_level() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = ["low lower lowest new newer newest", "wide wider widest"] * 3
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer.add_special_tokens({"eos_token": "<|end|>", "pad_token": "<|end|>"})
    return tokenizer


def test_a_language_model_with_an_untied_head_and_padded_rows(byte_level: Any) -> None:
    torch.manual_seed(0)
    end, sizes = byte_level.eos_token_id, {**SIZES, "num_key_value_heads": 1}
    config = LlamaConfig(vocab_size=len(byte_level) + 6, bos_token_id=end, eos_token_id=[end], use_cache=False, **sizes)
    teacher, texts = LlamaForCausalLM(config).double().eval(), ["lowest wide", "newer"]
    model: Any
    model, tokenizer = trim_vocabulary(teacher, byte_level, used_tokens(byte_level, texts))
    check_pieces(byte_level, tokenizer, texts)
    expected = teacher(**encode(byte_level, texts)).logits[..., kept_columns(byte_level, tokenizer)]
    torch.testing.assert_close(model(**encode(tokenizer, texts)).logits, expected, rtol=0, atol=1e-12)
    assert 256 < len(tokenizer) < len(byte_level)
    assert tokenizer.decode(tokenizer("ünder wood?")["input_ids"]) == "ünder wood?"  # bytes of their own
    assert model.config.eos_token_id == [tokenizer.eos_token_id] == [len(tokenizer) - 1]
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id]


def test_all_tables_of_an_encoder_decoder_follow(wordpiece: Any) -> None:
    sizes: dict[str, Any] = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    config = T5Config(vocab_size=16, pad_token_id=11, eos_token_id=14, decoder_start_token_id=13, **sizes)
    teacher = T5ForConditionalGeneration(config).double().eval()
    model, tokenizer = trim_vocabulary(teacher, wordpiece, used_tokens(wordpiece, TEXTS))
    batches = [encode(t, TEXTS) for t in (wordpiece, tokenizer)]
    outputs = [
        m(**batch, decoder_input_ids=batch["input_ids"]).logits
        for m, batch in zip((teacher, model), batches, strict=True)
    ]
    torch.testing.assert_close(outputs[1], outputs[0][..., kept_columns(wordpiece, tokenizer)], rtol=0, atol=1e-12)


class Bag(nn.Module):
    """No configuration; an attribute of its own, a tied head and an untied one."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 16
        self.table, self.back, self.own = nn.Embedding(16, 6), nn.Linear(6, 16, bias=False), nn.Linear(6, 16)
        self.back.weight = self.table.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        hidden = torch.tanh(self.table(input_ids)).mean(1)
        return (self.back(hidden) + self.own(hidden)).view(-1, self.tokens)


def test_a_plain_module_is_traced(wordpiece: Any) -> None:
    teacher = Bag().double().eval()
    keep, ids = used_tokens(wordpiece, TEXTS), encode(wordpiece, TEXTS)["input_ids"]
    model, tokenizer = trim_vocabulary(teacher, wordpiece, keep, {"input_ids": ids})
    expected = teacher(ids)[..., kept_columns(wordpiece, tokenizer)]
    torch.testing.assert_close(model(encode(tokenizer, TEXTS)["input_ids"]), expected, rtol=0, atol=1e-12)
    assert model.back.weight is model.table.weight
    assert (model.table.num_embeddings, model.own.out_features, teacher.own.out_features) == (12, 12, 16)


def test_a_student_of_the_pair_is_an_ordinary_checkpoint(
    make_bert: Callable[..., Any], wordpiece: Any, tmp_path: Path
) -> None:
    teacher = make_bert(vocab_size=16).float()
    model, tokenizer = trim_vocabulary(teacher, wordpiece, used_tokens(wordpiece, TEXTS))
    batch = encode(tokenizer, TEXTS)
    plain = fold(build_student(model, Plan([Project("hidden", 24)]), batch, [batch]))
    folder = save_student(plain, tmp_path / "student", tokenizer=tokenizer)
    opened = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    again = encode(AutoTokenizer.from_pretrained(folder), TEXTS)
    assert torch.equal(opened(**again).logits, plain(**batch).logits)


def test_used_tokens_counts() -> None:
    tokenizer = BertTokenizer(vocab={piece: index for index, piece in enumerate([*SPECIAL, *WORDS])})
    assert used_tokens(tokenizer, ["the cats", "the dog"]) == [5, 6, 7, 14]
    assert used_tokens(tokenizer, ["the cats", "the dog"], min_count=2) == [5]


def test_refusals(make_bert: Callable[..., Any], wordpiece: Any) -> None:
    with pytest.raises(InputError, match=r"keep=\[\]\) would leave no tokens; give ids such as those of used_tokens"):
        trim_vocabulary(make_bert(vocab_size=16), wordpiece, [])
    with pytest.raises(InputError, match="no token of id 16; keep must hold ids from 0 to 15"):
        trim_vocabulary(make_bert(vocab_size=16), wordpiece, [3, 16])
    with pytest.raises(InputError, match="Bag does not say which table its tokens look up; pass inputs="):
        trim_vocabulary(Bag(), wordpiece, [3])
    with pytest.raises(InputError, match="object is no fast tokenizer, so its pieces cannot be trimmed"):
        trim_vocabulary(Bag(), object(), [3])
    numbers = {"input": torch.randn(4, 6)}
    with pytest.raises(InputError, match="No input of Linear looks up a table, so it has no vocabulary to trim"):
        trim_vocabulary(nn.Linear(6, 2), wordpiece, [3], numbers)
