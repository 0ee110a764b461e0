"""Laws of the sequential start: it never does harm, takes over what was dropped, and corrects earlier errors."""

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph, trace
from edgefold.distillation import captured_outputs
from edgefold.errors import InputError
from edgefold.plans import LowRank, Plan, Project, Select
from edgefold.projections import Selection
from edgefold.starts.sequential_start import refit_sequentially
from edgefold.student_building import build_student
from edgefold.students import MODES, Student

SMALL = [Project("hidden", 16), Select("ffn", 24), Select("heads", 2)]


class Residual(nn.Module):
    """A residual stream that norms, linears and a matrix without a module read and write."""

    def __init__(self, layers: int = 3) -> None:
        super().__init__()
        self.inner = nn.Linear(6, 16)
        self.norms = nn.ModuleList(nn.LayerNorm(16) for _ in range(layers))
        self.up = nn.ModuleList(nn.Linear(16, 20) for _ in range(layers))
        self.down = nn.ParameterList(torch.randn(20, 16) / 4 for _ in range(layers))
        self.out = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            hidden = hidden + torch.relu(up(norm(hidden))) @ down
        return self.out(hidden)


class Shared(nn.Module):
    """One layer, used three times."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.layer, self.out = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        for _ in range(3):
            hidden = hidden + self.layer(hidden)
        return self.out(hidden)


def residual(model: type[nn.Module] = Residual) -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    return model().double().eval(), {"x": torch.randn(300, 6, dtype=torch.float64)}


def error(student: Student, teacher: nn.Module, batch: Any) -> float:
    with torch.no_grad():
        found, wanted = student(**batch), teacher(**batch)
    found, wanted = (getattr(output, "logits", output) for output in (found, wanted))
    return float((found - wanted).square().mean())


@pytest.mark.parametrize("plan", [[Project("hidden", 24)], [Select("ffn", 40), Select("heads", 3)], []])
def test_at_full_size_it_changes_nothing(
    plan: list[Any], make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    teacher, batches = make_bert(), [text_batch(8, 12, 3), text_batch(8, 7, 4)]
    student = build_student(teacher, Plan(plan), text_batch(), batches, start="sequential", graph=bert_graph)
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(student.module.get_parameter(name), value, rtol=1e-8, atol=1e-8)


def test_kept_neurons_take_over_the_work_of_dropped_ones() -> None:
    """Every second neuron repeats its neighbour, so half of them can do all the work, with other weights."""
    torch.manual_seed(0)
    teacher, x = nn.Sequential(nn.Linear(5, 20), nn.Tanh(), nn.Linear(20, 3)).double().eval(), torch.randn(200, 5)
    with torch.no_grad():
        teacher[0].weight[1::2], teacher[0].bias[1::2] = teacher[0].weight[::2], teacher[0].bias[::2]
        teacher[2].weight[:, ::2] *= 2  # of each pair the first is kept
    batch = {"input": x.double()}
    student = build_student(teacher, Plan([Select("units", 10)]), batch, [batch], start="pca")
    assert error(student, teacher, batch) > 0.01
    graphs = trace(teacher, batch), trace(student.module, batch)
    weights = refit_sequentially(*graphs, {"units.0": Selection(torch.arange(0, 20, 2))}, [batch], ridge=1e-12)
    student.module.load_state_dict(weights, strict=False)
    assert error(student, teacher, batch) < 1e-16


def stream_errors(student: Student, teacher: nn.Module, paths: list[str], batch: Any) -> list[float]:
    """How far the student is from the teacher's projected stream, where these modules hand it on."""
    projection = student.projection("hidden")
    assert projection is not None
    with captured_outputs(teacher, paths) as h, captured_outputs(student.module, paths) as s, torch.no_grad():
        teacher(**batch), student(**batch)
        kept = batch["attention_mask"].bool() if "attention_mask" in batch else slice(None)
        return [float((h[path] @ projection - s[path])[kept].square().mean()) for path in paths]


def test_the_stream_of_a_bert_is_nowhere_further_from_the_teacher(
    make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    teacher, batch = make_bert(), text_batch(64, 12, 3)
    paths = [f"bert.encoder.layer.{i}.{part}.LayerNorm" for i in (0, 1) for part in ("attention.output", "output")]
    plain, student = (
        build_student(teacher, Plan(SMALL), batch, [batch], start=start, graph=bert_graph)
        for start in ("pca", "sequential")
    )
    errors = (stream_errors(model, teacher, paths, batch) for model in (student, plain))
    assert all(a < b for a, b in zip(*errors, strict=True))


def test_the_stream_of_a_plain_module_is_nowhere_further_from_the_teacher() -> None:
    teacher, x = residual()
    plan = Plan([Project("hidden", 8), Select("ffn", 10)])
    plain, student = (build_student(teacher, plan, x, [x], start=start) for start in ("pca", "sequential"))
    errors = (stream_errors(model, teacher, [f"norms.{i}" for i in range(3)], x) for model in (student, plain))
    assert all(a <= b * (1 + 1e-9) for a, b in zip(*errors, strict=True))
    assert error(student, teacher, x) < 0.7 * error(plain, teacher, x)


def test_every_step_lowers_its_own_error() -> None:
    teacher, x = residual()
    figures: list[Any] = []
    build_student(
        teacher, Plan([Project("hidden", 8), Select("ffn", 10)]), x, [x], progress=lambda *args: figures.append(args)
    )
    assert [(stage, done, total) for stage, done, total, _ in figures] == [("start", i + 1, 11) for i in range(11)]
    assert all(f["error_after"] <= f["error_before"] * (1 + 1e-9) for *_, f in figures)


def test_masked_positions_have_no_influence(
    make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    batch, other = text_batch(8, 12, 3), text_batch(8, 12, 3)
    other["input_ids"] = torch.where(other["attention_mask"] == 1, other["input_ids"], 7)
    students = [
        build_student(make_bert(), Plan(SMALL), text_batch(), [b], start="sequential", graph=bert_graph)
        for b in (batch, other)
    ]
    for (name, a), (_, b) in zip(*(student.module.named_parameters() for student in students), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)


def test_activations_that_are_not_finite_are_refused_with_the_layer() -> None:
    teacher, x = residual()
    student = build_student(teacher, Plan([]), x, [x], start="pca")
    with torch.no_grad():
        teacher.up[1].weight[0, 0] = float("nan")
    graphs = trace(teacher, x), trace(student.module, x)
    with pytest.raises(InputError, match=r"non-finite activations in the teacher at up\.1; check"):
        refit_sequentially(*graphs, {}, [x], frozen=["up.0.weight"])


def test_a_layer_that_is_used_several_times_keeps_its_weights() -> None:
    teacher, x = residual(Shared)
    plan = Plan([Project("hidden", 8)])
    plain, student = (build_student(teacher, plan, x, [x], start=start) for start in ("pca", "sequential"))
    assert torch.equal(plain.module.layer.weight, student.module.layer.weight)
    assert not torch.equal(plain.module.out.weight, student.module.out.weight)
    assert error(student, teacher, x) < error(plain, teacher, x)


def test_graphs_that_do_not_align_keep_the_plain_start(caplog: pytest.LogCaptureFixture) -> None:
    teacher, x = residual()
    other = nn.ModuleDict({"another": teacher})
    other.forward = lambda x: other["another"](x).tanh()  # type: ignore[method-assign]
    with caplog.at_level(logging.WARNING):
        assert refit_sequentially(trace(teacher, x), trace(other, x), {}, [x]) == {}
    assert "No layer of the student could be aligned" in caplog.text


def test_a_student_of_every_second_layer_follows_the_layers_it_is_mapped_to() -> None:
    teacher, x = residual()
    torch.manual_seed(0)
    student = Residual(2).double().eval()
    kept = {0: 0, 1: 2}
    layer_map = {f"{family}.{i}": f"{family}.{j}" for family in ("norms", "up") for i, j in kept.items()}
    student.load_state_dict({name: teacher.state_dict()[_renamed(name, kept)] for name in student.state_dict()})
    with torch.no_grad():
        before = float((student(**x) - teacher(**x)).square().mean())
    reference = trace(student, x)
    weights = refit_sequentially(trace(teacher, x), reference, {}, [x], reference=reference, layer_map=layer_map)
    student.load_state_dict(weights, strict=False)
    with torch.no_grad():
        assert float((student(**x) - teacher(**x)).square().mean()) < 0.5 * before


def _renamed(name: str, kept: dict[int, int]) -> str:
    parts = name.split(".")
    return ".".join(str(kept[int(part)]) if part.isdigit() else part for part in parts)


def test_fused_products_and_views_are_fitted_and_tied_embeddings_are_not(text_batch: Callable[..., Any]) -> None:
    """GPT-2: query, key and value in one matrix, products on flattened positions, a head tied to the embeddings."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        n_embd=24, n_layer=2, n_head=3, vocab_size=101, n_positions=32, use_cache=False, bos_token_id=0, eos_token_id=0
    )
    teacher, batch = GPT2LMHeadModel(config).double().eval(), text_batch(64, 12, 3)
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        for parameter in student.transformer.h.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        before = (student(**batch).logits - teacher(**batch).logits).square().mean()
    weights = refit_sequentially(trace(teacher, batch), trace(student, batch), {}, [batch])
    assert {"transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.bias"} <= weights.keys()
    assert not {"transformer.wte.weight", "lm_head.weight"} & weights.keys()
    student.load_state_dict(weights, strict=False)
    with torch.no_grad():
        assert (student(**batch).logits - teacher(**batch).logits).square().mean() < 0.01 * before


def test_the_kernels_of_convolutions_keep_their_start_and_their_biases_do_not() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 3), nn.Flatten(), nn.Linear(24, 2))
    x = {"input": torch.randn(40, 3, 10, dtype=torch.float64)}
    teacher = teacher.double().eval()
    plan = Plan([Select("channels.0", 4)])
    plain, student = (build_student(teacher, plan, x, [x], start=start) for start in ("pca", "sequential"))
    assert torch.equal(plain.module[2].weight, student.module[2].weight)
    assert not torch.equal(plain.module[2].bias, student.module[2].bias)
    assert error(student, teacher, x) < error(plain, teacher, x)


@pytest.mark.parametrize("mode", MODES)
def test_modes_keep_what_is_composed(
    mode: str, make_bert: Callable[..., Any], bert_graph: DimensionGraph, text_batch: Callable[..., Any]
) -> None:
    batch = text_batch(16, 12, 3)
    plan = Plan([Project("hidden", 16), LowRank("*pooler.dense", 4)])
    plain, student = (
        build_student(make_bert(), plan, batch, [batch], mode, start=start, graph=bert_graph)
        for start in ("pca", "sequential")
    )
    for name, value in plain.composed().items():
        assert torch.equal(value, student.composed()[name])
    norm = "bert.encoder.layer.1.output.LayerNorm.weight"
    assert not torch.equal(plain.module.get_parameter(norm), student.module.get_parameter(norm))
    assert error(student, make_bert(), batch) < error(plain, make_bert(), batch)


def test_an_unknown_start_is_refused() -> None:
    teacher, x = residual()
    with pytest.raises(InputError, match=r"start='random' is not known; choose one of sequential, pca"):
        build_student(teacher, Plan([]), x, [x], start="random")
