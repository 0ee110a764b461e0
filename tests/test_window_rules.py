"""Channels that move into space and back keep what a window or a cell holds, and may be fewer."""

from collections.abc import Callable

import pytest
import torch
from family_plans import first
from torch import Tensor, nn

from edgefold.dimensions import trace
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student

Change = Callable[[Tensor], Tensor]
MOVES: dict[str, tuple[int, Change, int, int]] = {
    "pixel shuffle": (24, nn.PixelShuffle(2), 6, 6),
    "pixel unshuffle": (6, nn.PixelUnshuffle(2), 24, 6),
    "channel shuffle": (12, nn.ChannelShuffle(2), 12, 6),
    "there and back": (24, lambda h: nn.functional.pixel_unshuffle(nn.functional.pixel_shuffle(h, 2), 2), 24, 6),
    "columns": (6, lambda h: nn.functional.unfold(h, 3, padding=1).view(-1, 54, 8, 8), 54, 6),
    "an image of columns": (24, lambda h: nn.functional.fold(h.flatten(2), (9, 9), 2), 6, 6),
    "windows": (6, lambda h: h.unfold(2, 4, 2).mean(-1), 6, 6),
}
"""Name -> channels before, the move, channels after, and the size of the dimension that both run along."""


@pytest.mark.parametrize("name", MOVES)
def test_channels_may_be_fewer(name: str) -> None:
    before, move, after, size = MOVES[name]

    class Moved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enter, self.leave = nn.Conv2d(3, before, 1), nn.Conv2d(after, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.leave(move(torch.tanh(self.enter(x))))

    torch.manual_seed(0)
    model, inputs = Moved().double().eval(), {"x": torch.randn(2, 3, 8, 8, dtype=torch.float64)}
    graph = trace(model, inputs)
    assert [(d.size, d.kind) for d in graph if d.kind != "fixed"] == [(size, "permutation")]
    assert not [d.reason for d in graph if "no rule" in d.reason]
    dimension = next(d.name for d in graph if d.kind != "fixed")
    student = build_student(model, Plan([Select(dimension, size // 2)]), inputs, [inputs], graph=graph)
    plain = fold(student)
    assert plain.enter.weight.shape[0] == before // 2
    torch.testing.assert_close(first(plain, inputs), first(student, inputs))


class Stepwise(nn.Module):
    """A cell over the places of a sequence, one after the other."""

    def __init__(self, cell: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell, self.out = cell(6, 8), nn.Linear(8, 2)  # type: ignore[call-arg]

    def forward(self, x: Tensor) -> Tensor:
        state = self.cell(x[:, 0])
        for place in range(1, 4):
            state = self.cell(x[:, place], state)
        return self.out(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_units_of_a_cell_that_nobody_reads_go(cell: type[nn.RNNCellBase]) -> None:
    torch.manual_seed(0)
    model, inputs = Stepwise(cell).double().eval(), {"x": torch.randn(5, 4, 6, dtype=torch.float64)}
    graph = trace(model, inputs)
    assert {(d.name, d.size) for d in graph if d.kind == "permutation"} == {("units.0", 8)}
    with torch.no_grad():
        model.cell.weight_hh[:, 2:5] = 0
        model.out.weight[:, 2:5] = 0
    student = build_student(model, Plan([Select("units", 5)]), inputs, [inputs], graph=graph)
    torch.testing.assert_close(first(student, inputs), first(model, inputs), rtol=1e-9, atol=1e-9)


class Skipping(nn.Module):
    """The residual of the last block is computed and not read, as in a WaveNet: what it reads must still fit."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.out = nn.Linear(6, 16), nn.Linear(12, 2)
        self.wide, self.back, self.skip = (
            nn.ModuleList(nn.Linear(*n) for _ in "ab") for n in ((16, 40), (20, 16), (20, 12))
        )

    def forward(self, x: Tensor) -> Tensor:
        h, skipped = self.enter(x), 0
        for wide, back, skip in zip(self.wide, self.back, self.skip, strict=True):
            gated = nn.functional.glu(wide(h))
            skipped, h = skipped + skip(gated), h + back(gated)
        return self.out(skipped)


def test_what_nobody_reads_has_the_sizes_of_what_it_reads() -> None:
    torch.manual_seed(0)
    model, inputs = Skipping().eval(), {"x": torch.randn(5, 6)}
    graph = trace(model, inputs)
    assert sorted((d.size, d.kind) for d in graph if d.kind != "fixed") == [
        (12, "linear"),
        (16, "linear"),
        (20, "permutation"),
        (20, "permutation"),
    ]
    plan = Plan([(Project if d.kind == "linear" else Select)(d.name, d.size // 2) for d in graph if d.kind != "fixed"])
    plain = fold(build_student(model, plan, inputs, [inputs], graph=graph))
    assert plain.back[1].weight.shape == (8, 10)
