"""Whether a plan meets its budget is measured before it is trained, however far off the latency model was."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.candidates import Depth, explore_depths
from edgefold.budget.choices import distinct, random_sizes, to_plan
from edgefold.budget.latency_tables import LatencyTable, Timing, measure_plans
from edgefold.budget.measured_candidates import ROUNDS, Selection, choose_measured
from edgefold.dimensions import trace
from edgefold.plans import DropLayers, Plan

TEACHER_SECONDS = 1e-3


SMALL, WIDE = (6, 96, 64, 96, 64, 3), (6, 384, 256, 384, 256, 3)


@cache
def scene(widths: tuple[int, ...] = SMALL) -> tuple[nn.Module, dict[str, torch.Tensor], tuple[Depth, ...]]:
    torch.manual_seed(0)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    module = nn.Sequential(*layers[:-1]).eval()
    inputs = {"input": torch.randn(8, 6)}
    return module, inputs, tuple(explore_depths(module, trace(module, inputs), inputs, [inputs], [inputs]))


class Device:
    """Its passes take as long as there are weights, times an `overhead` that no sum of costs knows of."""

    def __init__(self, overhead: Callable[[float], float], widths: tuple[int, ...] = SMALL) -> None:
        module, inputs, depths = scene(widths)
        self.depths = depths
        self.students, self.overhead, self.rounds = BlankStudents(module, inputs), overhead, list[int]()
        self.whole = sum(parameter.numel() for parameter in module.parameters())
        drawn = distinct((to_plan(depths[0].choices, sizes) for sizes in random_sizes(depths[0].choices, 0)), 10)
        self.entries = measure_plans(
            self.students, [Plan([]), *(plan for plan in drawn if plan.steps)], self.time, key={}
        ).entries

    def time(self, module: nn.Module, inputs: object) -> Timing:
        share = sum(parameter.numel() for parameter in module.parameters()) / self.whole
        return Timing(seconds=TEACHER_SECONDS * share * self.overhead(share), teacher_seconds=TEACHER_SECONDS)

    def measure(self, plans: Sequence[Plan], number: int) -> LatencyTable:
        self.rounds.append(number)
        known = [entry.plan for entry in self.entries]
        new = [plan for plan in plans if plan.to_dicts() not in known]
        self.entries += measure_plans(self.students, new, self.time, key={}, number=number).entries
        return LatencyTable(key={}, entries=list(self.entries))

    def seconds(self, plan: Plan) -> float:
        student = self.students.build(plan)
        return self.time(student.module, None).seconds

    def choose(self, speedup: float, count: int = 3) -> Selection:
        table = LatencyTable(key={}, entries=list(self.entries))
        return choose_measured(self.depths, table, self.measure, lambda seconds: seconds / speedup, count)


@pytest.mark.parametrize(
    "overhead", [lambda share: 1.0, lambda share: 1 + 0.4 * (share < 0.2), lambda share: 1.5 - share]
)
def test_what_is_chosen_meets_the_budget_and_uses_it(overhead: Callable[[float], float]) -> None:
    device = Device(overhead)
    found = device.choose(6.0)
    assert 1 <= len(found.candidates) <= 3
    used = [device.seconds(each.plan) * 6 / TEACHER_SECONDS for each in found.candidates]
    assert max(used) <= 1
    assert max(used) > 0.8
    assert len({str(each.plan) for each in found.candidates}) == len(found.candidates)
    assert max(device.rounds) <= ROUNDS
    for each in found.candidates:
        timing = found.timing(each)
        assert timing is not None
        assert timing.seconds == pytest.approx(device.seconds(each.plan))


def test_no_plan_is_measured_twice_and_rounds_end() -> None:
    device = Device(lambda share: 1.0)
    device.choose(4.0)
    assert len({str(entry.plan) for entry in device.entries}) == len(device.entries)
    assert device.rounds == list(range(1, len(device.rounds) + 1))
    assert len(device.rounds) <= ROUNDS


def test_the_even_plan_stays_among_them() -> None:
    device = Device(lambda share: 1 + 0.4 * (share < 0.2))
    *_, even = device.choose(6.0).candidates
    sizes = {step.dimension: step.size for step in even.plan.steps}  # type: ignore[union-attr]
    shares = [sizes[each.dimension] / each.sizes[-1] for each in scene()[2][0].choices if each.dimension in sizes]
    assert max(shares) - min(shares) <= 8 / 64


def test_where_none_meets_it_the_nearest_are_left() -> None:
    device = Device(lambda share: 1 + 50 * (share < 0.3))
    found = device.choose(6.0)
    assert found.candidates
    assert all(device.seconds(each.plan) > TEACHER_SECONDS / 6 for each in found.candidates)


def test_below_the_smallest_there_is_nothing() -> None:
    assert Device(lambda share: 1.0).choose(1e6).candidates == []


def test_a_plan_that_was_not_measured_has_no_timing() -> None:
    found = Device(lambda share: 1.0).choose(4.0)
    assert found.timing(replace(found.candidates[0], plan=Plan([DropLayers(keep=(0,))]))) is None


@pytest.mark.parametrize("speedup", [7.0, 14.0])
def test_the_even_plan_uses_the_budget_too(speedup: float) -> None:
    """An equal share of everything is a rival only where it may be as slow as the others."""
    device = Device(lambda share: 0.3 + 0.7 * share**0.5, WIDE)
    *_, even = device.choose(speedup).candidates
    assert 0.95 <= device.seconds(even.plan) * speedup / TEACHER_SECONDS <= 1
