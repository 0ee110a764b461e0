"""Mixtures of experts: the stream and the neurons within the experts are free, what ranks the experts is not."""

from pathlib import Path

import pytest
import torch
import transformers.integrations.moe  # noqa: F401 (registers the product in groups)
from family_plans import first
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import trace
from edgefold.exporters import export_onnx
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.resizing.layouts import copies
from edgefold.student_building import build_student

pytestmark = pytest.mark.filterwarnings("ignore")


class Mixture(nn.Module):
    """Each row goes to two of four experts; sorted by expert, gates and values by turns, sizes as literals."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.router, self.out = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 3)
        self.wide, self.down = nn.Parameter(torch.randn(4, 16, 24)), nn.Parameter(torch.randn(4, 16, 12))

    def forward(self, x: Tensor) -> Tensor:
        product = torch.ops.transformers.grouped_mm_fallback
        h = self.embed(x)
        shares, experts = self.router(h).softmax(-1).topk(2)
        chosen, order = experts.reshape(-1).sort()
        ends = torch.histc(chosen.to(h.dtype), bins=4, min=0, max=3).cumsum(0).to(torch.int32)
        wide = product(h[order // 2], self.wide, ends)
        inner = (nn.functional.silu(wide[..., ::2]) * wide[..., 1::2]).view(-1, 12)
        y = product(inner, self.down.transpose(1, 2), ends) * shares.reshape(-1)[order][:, None]
        return self.out(h + y[order.argsort()].view(-1, 2, 16).sum(1))


class Sinks(nn.Module):
    """A score that nobody is sent to, put together in a tensor of its own, less the largest; the smallest is cut."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.other, self.out = nn.Linear(6, 8), nn.Linear(6, 5), nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        joined = x.new_empty(len(x), 13)
        joined[:, :8] = torch.tanh(self.inner(x))
        joined[:, 8:] = self.other(x)
        shares = (joined - joined.max(-1, keepdim=True).values).softmax(0)
        cut = torch.zeros_like(x[:, :2]).scatter_(1, x[:, :2].argmin(-1, keepdim=True), 1.0)
        return self.out(shares) * cut.sum(-1, keepdim=True)


@pytest.fixture
def mixture() -> tuple[nn.Module, dict[str, Tensor]]:
    torch.manual_seed(0)
    return Mixture().double().eval(), {"x": torch.randn(7, 6, dtype=torch.float64)}


def without(model: nn.Module, inputs: dict[str, Tensor], name: str, readers: dict[str, int]) -> nn.Module:
    """The student without half of a dimension that nobody reads: the model's weights on it are made zero."""
    graph = trace(model, inputs)
    dead = torch.arange(0, graph[name].size, 2)
    with torch.no_grad():
        for parameter, axis in readers.items():
            places = copies(graph.layouts[parameter][axis], name)[dead].reshape(-1)
            model.get_parameter(parameter).index_fill_(axis, places, 0)
    plan = Plan([Select(name, graph[name].size - len(dead))])
    return build_student(model, plan, inputs, [inputs], graph=graph)


def test_what_ranks_the_experts_is_fixed_and_all_else_free(mixture: tuple[nn.Module, dict[str, Tensor]]) -> None:
    graph = trace(*mixture)
    assert {d.name: (d.kind, d.size) for d in graph if d.kind != "fixed"} == {
        "hidden": ("linear", 16),
        "units.0": ("permutation", 12),
    }
    reasons = {d.reason.split(" (")[0] for d in graph if d.kind == "fixed" and d.size in (2, 4)}
    assert {"ranked by topk.default", "taken by turns by slice.Tensor"} <= reasons
    assert any(reason.startswith("groups of rows of transformers.grouped_mm_fallback") for reason in reasons)


def test_units_of_the_experts_that_nobody_reads_go(mixture: tuple[nn.Module, dict[str, Tensor]]) -> None:
    """Through a traced graph, whose slices by turns begin where they did."""
    model, inputs = mixture
    student = without(model, inputs, "units.0", {"down": 2})
    assert isinstance(student.module, GraphModule)
    torch.testing.assert_close(first(student, inputs), first(model, inputs), rtol=1e-10, atol=1e-10)


def test_values_put_together_are_followed() -> None:
    torch.manual_seed(0)
    model, inputs = Sinks().double().eval(), {"x": torch.randn(7, 6, dtype=torch.float64)}
    graph = trace(model, inputs)
    assert {d.size: d.kind for d in graph}[8] == "permutation"
    assert not any("no rule" in d.reason for d in graph)
    student = build_student(model, Plan([Select("units", 4)]), inputs, [inputs], graph=graph)
    assert first(fold(student), inputs).shape == (7, 3)


def test_a_mixture_is_projected_saved_opened_and_exported(
    mixture: tuple[nn.Module, dict[str, Tensor]], tmp_path: Path
) -> None:
    model, inputs = mixture[0].float(), {"x": mixture[1]["x"].float()}
    student = build_student(model, Plan([Project("hidden", 8), Select("units", 6)]), inputs, [inputs], "all")
    plain = fold(student)
    assert isinstance(plain, GraphModule)
    torch.testing.assert_close(first(plain, inputs), first(student, inputs), rtol=1e-4, atol=1e-5)
    opened = load_student(save_student(plain, tmp_path / "student"))
    torch.testing.assert_close(first(opened, inputs), first(plain, inputs), rtol=1e-5, atol=1e-6)
    assert export_onnx(plain, inputs, tmp_path / "onnx").lineage["parity"]["fp32"] < 1e-4
