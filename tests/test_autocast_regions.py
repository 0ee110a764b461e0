"""What stands under torch.autocast(enabled=False) is traced as if it stood outside; a region in bf16 stays one."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
