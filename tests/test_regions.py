"""What stands under torch.autocast(enabled=False) or torch.no_grad() is traced as if it stood outside, but that nothing
is learned through the latter; a region in bf16 stays one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import DimensionGraph, trace
from edgefold.folding import fold
from edgefold.plans import Plan, Select
from edgefold.student_building import build_student

X = {"x": torch.randn(4, 8)}


class Guarded(nn.Module):
    """Two layers and a constant, within as many regions as `regions` says; another layer behind them."""

    def __init__(self, regions: int, enabled: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.inside, self.leave = nn.Linear(8, 16), nn.Linear(16, 24), nn.Linear(24, 3)
        self.regions, self.enabled = regions, enabled

    @contextmanager
    def region(self) -> Iterator[None]:
        with ExitStack() as stack:
            for _ in range(self.regions):
                stack.enter_context(torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.enabled))
            yield

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x)
        with self.region():
            scaled = hidden.relu() * torch.tensor([2.0])
            inside = self.inside(scaled)
        gate = scaled.mean(-1, keepdim=True)
        return self.leave(inside.float().relu() * gate)  # type: ignore[no-any-return]


def free(graph: DimensionGraph) -> dict[str, int]:
    return {d.name: d.size for d in graph.dimensions if d.kind != "fixed"}


@pytest.mark.parametrize("regions", [1, 3])
def test_a_region_without_autocast_hides_nothing(regions: int) -> None:
    bare, guarded = trace(Guarded(0), X), trace(Guarded(regions), X)
    assert free(guarded) == free(bare)
    assert sorted(free(bare).values()) == [16, 24]
    assert [(d.parameters, d.macs) for d in guarded.dimensions] == [(d.parameters, d.macs) for d in bare.dimensions]


def test_a_student_with_a_region_is_saved_as_a_graph_and_computes_the_same(tmp_path: Path) -> None:
    model = Guarded(2).eval()
    plan = Plan([Select(name, size // 2) for name, size in free(trace(model, X)).items()])
    plain = fold(build_student(model, plan, X, [X], "all"))
    opened = load_student(save_student(plain, tmp_path / "student", inputs=X))
    torch.testing.assert_close(opened(**X), plain(**X))
    opened.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        opened(**X).sum().backward()
    assert all(parameter.grad is not None for parameter in opened.parameters())


def test_a_region_in_bfloat16_keeps_its_sizes_and_says_so() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(Guarded(1, enabled=True), nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 2)).eval()
    inputs = {"input": X["x"]}
    graph = trace(model, inputs)
    (name,) = [name for name, size in free(graph).items() if size == 16]
    reasons = {member.parameter: d.reason for d in graph.dimensions for member in d.members if d.size == 24}
    assert "wrap_with_autocast" in reasons["0.inside.weight"]
    plain = fold(build_student(model, Plan([Select(name, 8)]), inputs, [inputs], "all"))
    assert plain(**inputs).shape == (4, 2)
    assert plain[1].out_features == 8


class Frozen(nn.Module):
    """A layer that is not trained, by a context or a decorator, before or behind others, or with a region inside."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.inside, self.leave = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)
        self.kind = kind

    @torch.no_grad()
    def decorated(self, x: Tensor) -> Tensor:
        return self.inside(x).relu()  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.enter(x)
        if self.kind == "decorator":
            inside = self.decorated(hidden)
        elif self.kind == "entrance":  # what comes before is frozen, and given back as it is
            with torch.no_grad():
                hidden, inside = self.enter(x), x
            inside = self.inside(hidden).relu()
        else:
            with torch.no_grad(), torch.autocast("cpu", enabled=False) if self.kind == "autocast" else nullcontext():
                inside = self.inside(hidden).relu()
        return self.leave(inside + hidden)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["context", "decorator", "entrance", "autocast"])
def test_a_traced_module_learns_what_its_source_learns(kind: str, tmp_path: Path) -> None:
    model = Frozen(kind).eval()
    assert set(free(trace(model, X)).values()) == {16}
    opened = load_student(save_student(model, tmp_path / "student", inputs=X))
    for network in (model.train(), opened.train()):
        network(**X).square().sum().backward()
    assert any(parameter.grad is None for parameter in model.parameters())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(opened.get_parameter(name).grad, parameter.grad)


class Counted(nn.Module):
    """It keeps count in a parameter, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave, self.calls = nn.Linear(8, 16), nn.Linear(16, 3), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1.0)
        return self.leave(self.enter(x).relu())  # type: ignore[no-any-return]


def test_a_forward_that_no_gradient_allows_is_traced_without() -> None:
    assert set(free(trace(Counted(), X)).values()) == {16}
