"""Laws of dropped layers: all kept is nothing changed, a student is the hand-made model, the configuration follows."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    Gemma2ForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from edgefold.checkpoints import load_student, save_student
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import DropLayers, Plan, Project, Select
from edgefold.structure.layer_cutting import cut_layers
from edgefold.structure.layer_dropping import path_before
from edgefold.structure.stacks import Stack
from edgefold.student_building import build_student
from edgefold.students import MODES

X = {"x": torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))}


def by_hand(model: Any, stack: str, keep: tuple[int, ...]) -> Any:
    cut = copy.deepcopy(model)
    parent, _, name = stack.rpartition(".")
    layers = cut.get_submodule(stack)
    setattr(cut.get_submodule(parent), name, nn.ModuleList(layers[index] for index in keep))
    return cut


def make_t5() -> Any:
    torch.manual_seed(0)
    config = T5Config(vocab_size=101, d_model=16, d_kv=8, d_ff=32, num_layers=4, num_heads=2, use_cache=False)
    return T5ForConditionalGeneration(config).double().eval()


def test_keeping_every_layer_changes_nothing(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    teacher = make_bert()
    student = build_student(teacher, Plan([DropLayers(keep=(0, 1))]), text_batch(), [text_batch()])
    torch.testing.assert_close(student(**text_batch()).logits, teacher(**text_batch()).logits, rtol=0, atol=1e-12)
    assert student.structure.is_uniform


def test_a_bert_with_fewer_layers_is_the_hand_made_one_and_an_ordinary_checkpoint(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    teacher = make_bert(num_hidden_layers=4).float()
    student = build_student(teacher, Plan([DropLayers(every=2)]), text_batch(), [text_batch()], start="pca")
    plain = fold(student)
    hand = by_hand(teacher, "bert.encoder.layer", (1, 3))
    torch.testing.assert_close(plain(**text_batch()).logits, hand(**text_batch()).logits, rtol=0, atol=1e-6)
    assert (plain.config.num_hidden_layers, teacher.config.num_hidden_layers) == (2, 4)
    assert student.structure.is_uniform
    opened = AutoModelForSequenceClassification.from_pretrained(save_student(plain, tmp_path / "student"))
    assert torch.equal(opened.eval()(**text_batch()).logits, plain(**text_batch()).logits)


def test_layers_are_known_by_their_path_in_the_teacher(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    teacher = make_bert(num_hidden_layers=4)
    student = build_student(teacher, Plan([DropLayers(keep=(0, 3))]), text_batch(), [text_batch()], start="pca")
    assert student.structure.layer_map == {
        "bert.encoder.layer.0": "bert.encoder.layer.0",
        "bert.encoder.layer.1": "bert.encoder.layer.3",
    }
    pairs = {match.module: match.teacher_module for match in student.matches}
    assert pairs["bert.encoder.layer.1.output.LayerNorm"] == "bert.encoder.layer.3.output.LayerNorm"
    assert pairs["bert.embeddings.LayerNorm"] == "bert.embeddings.LayerNorm"
    assert path_before("bert.encoder.layer.10.output", student.structure.layer_map) == "bert.encoder.layer.10.output"


def test_a_decoder_counts_its_layers_anew_so_that_its_cache_is_right(
    make_decoder: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    teacher, batch = make_decoder(), text_batch()
    plain: Any = fold(build_student(teacher, Plan([DropLayers(keep=(1, 3))]), batch, [batch], start="pca"))
    hand = by_hand(teacher, "transformer.h", (1, 3))
    torch.testing.assert_close(plain(**batch).logits, hand(**batch).logits, rtol=0, atol=1e-12)
    cut: Any = cut_layers(teacher, {Stack("transformer.h", 4): (1, 3)})
    for model in (plain, cut):
        assert [block.attn.layer_idx for block in model.transformer.h] == [0, 1]
        options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
        tokens = [model.generate(batch["input_ids"][:1], use_cache=cache, **options) for cache in (True, False)]
        assert torch.equal(*tokens)


def test_what_belongs_to_a_place_stays_there(tmp_path: Path, text_batch: Callable[..., Any]) -> None:
    """T5's first layers hold the table of relative positions that all layers use."""
    teacher, batch = make_t5(), {**text_batch(), "decoder_input_ids": text_batch(4, 5, 1)["input_ids"]}
    student = build_student(teacher, Plan([DropLayers(keep=(1, 3), stack="*")]), batch, [batch], start="pca")
    plain: Any = fold(student)
    hand = by_hand(by_hand(teacher, "encoder.block", (1, 3)), "decoder.block", (1, 3))
    for name in ("encoder", "decoder"):
        own, before = (getattr(m, name).block[0].layer[0].SelfAttention for m in (hand, teacher))
        own.relative_attention_bias, own.has_relative_attention_bias = before.relative_attention_bias, True
    torch.testing.assert_close(plain(**batch).logits, hand(**batch).logits, rtol=0, atol=1e-12)
    assert (plain.config.num_layers, plain.config.num_decoder_layers) == (2, 2)
    opened = AutoModelForSeq2SeqLM.from_pretrained(save_student(plain, tmp_path / "student")).eval().double()
    torch.testing.assert_close(opened(**batch).logits, plain(**batch).logits, rtol=0, atol=1e-12)


def test_one_stack_of_two_may_be_named(text_batch: Callable[..., Any]) -> None:
    batch = {**text_batch(), "decoder_input_ids": text_batch(4, 5, 1)["input_ids"]}
    plain: Any = fold(
        build_student(make_t5(), Plan([DropLayers(keep=(0,), stack="decoder")]), batch, [batch], start="pca")
    )
    assert (plain.config.num_layers, plain.config.num_decoder_layers) == (4, 1)


def test_lists_of_the_configuration_are_cut_with_the_layers(text_batch: Callable[..., Any]) -> None:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 4, "intermediate_size": 32, "head_dim": 8}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 1, "sliding_window": 3}
    teacher = Gemma2ForCausalLM(Gemma2Config(vocab_size=101, use_cache=False, **sizes, **heads)).double().eval()
    student = build_student(teacher, Plan([DropLayers(keep=(1, 2))]), text_batch(), [text_batch()], start="pca")
    config: Any = student.module.config
    assert config.layer_types == ["full_attention", "sliding_attention"]
    assert student.structure.is_uniform


@pytest.mark.parametrize("counts", [False, True])
def test_a_plain_module_with_a_list_of_its_own(
    counts: bool, make_residual_stack: Callable[..., Any], tmp_path: Path
) -> None:
    """Its layers keep their nature (the sign), and what numbers them (the index) numbers them anew."""
    teacher = make_residual_stack(counts=counts)
    plain: Any = fold(build_student(teacher, Plan([DropLayers(keep=(1, 3))]), X, [X], start="pca"))
    hidden = teacher.first(X["x"])
    for index in (1, 3):
        hidden = teacher.layers[index](hidden)
    torch.testing.assert_close(plain(**X), teacher.last(hidden), rtol=0, atol=1e-12)
    assert [(layer.index, layer.sign) for layer in plain.layers] == [(0, -1.0), (1, -1.0)]
    assert len(teacher.layers) == 4
    opened = load_student(save_student(plain, tmp_path / "student"), make_residual_stack(counts=counts))
    torch.testing.assert_close(opened(**X), plain(**X), rtol=0, atol=1e-12)


class AlternatingConfig(PretrainedConfig):
    def __init__(self, depth: int = 4, **rest: Any) -> None:
        self.depth = depth
        super().__init__(**rest)


class Alternating(PreTrainedModel):
    """A layer's nature follows from its place, which the configuration does not say."""

    config_class = AlternatingConfig

    def __init__(self, config: AlternatingConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(config.depth))
        for index, layer in enumerate(self.layers):
            layer.sign = -1.0 if index % 2 else 1.0

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + float(layer.sign) * torch.tanh(layer(x))
        return x


def test_a_configuration_that_would_change_the_layers_is_not_used(tmp_path: Path) -> None:
    teacher, x = Alternating(AlternatingConfig()).double().eval(), {"x": torch.randn(5, 6, dtype=torch.float64)}
    student = build_student(teacher, Plan([DropLayers(keep=(1, 3))]), x, [x], start="pca")
    expected = by_hand(teacher, "layers", (1, 3))(**x)
    torch.testing.assert_close(student(**x), expected, rtol=0, atol=1e-12)
    assert not student.structure.is_uniform
    folder = save_student(fold(student), tmp_path / "student")
    opened = load_student(folder, Alternating(AlternatingConfig()).double())
    torch.testing.assert_close(opened(**x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_other_steps_act_on_the_layers_that_stay(
    mode: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    plan = Plan([Project("hidden", 16), Select("ffn.1", 8), DropLayers(keep=(0, 2))])
    student = build_student(make_bert(num_hidden_layers=3), plan, text_batch(), [text_batch(8)], mode)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    plain: Any = fold(student)
    expected = student(**text_batch()).logits
    assert (plain(**text_batch()).logits - expected).abs().max() <= 1e-12 * expected.abs().max()
    assert [layer.intermediate.dense.out_features for layer in plain.bert.encoder.layer] == [40, 8]


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[2](self.layers[1](self.layers[0](x)))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([DropLayers(keep=(0, 4))], r"keep=\(0, 4\)\) does not fit layers of 4 layers; choose indices from 0 to 3"),
        ([DropLayers(every=5)], r"every=5\) would drop all 4 layers of layers; choose 1 <= every <= 4"),
        ([DropLayers(every=2), DropLayers(keep=(0,))], "Two DropLayers steps match layers; name that stack in one"),
        ([DropLayers(every=2), Select("units.3", 4)], "DropLayers and ShareLayers act first: dimensions are numbered"),
    ],
)
def test_refusals(steps: list[Any], message: str, make_residual_stack: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match=message):
        build_student(make_residual_stack(), Plan(steps), X, [X])


def test_a_forward_that_names_its_layers_is_refused() -> None:
    message = r"Unrolled cannot run with fewer layers \(layers 3 -> 1\): IndexError: .* Let forward iterate over"
    with pytest.raises(InputError, match=message):
        build_student(Unrolled().double(), Plan([DropLayers(keep=(0,))]), X, [X])
