"""Plans that should meet a budget, the least damage first: every depth and hidden size, uniform and per layer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import Tensor, nn

from edgefold.budget.allocation import allocate
from edgefold.budget.choices import Choices, find_choices, to_plan
from edgefold.budget.costs import Cost, CostCounter
from edgefold.budget.damage import Damage, Judge, estimate_damage
from edgefold.budget.refitted_streams import Shares, left_after_start, with_starts
from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph, trace
from edgefold.folding import fold
from edgefold.plans import DropLayers, Plan, Step
from edgefold.structure.stacks import find_stacks
from edgefold.student_building import build_student

Spent = Callable[[Cost], float]
"""What of the budget a cost uses up."""


@dataclass(frozen=True)
class Candidate:
    """A plan worth training."""

    plan: Plan
    damage: float
    """The share of the variance of the teacher's outputs that it is estimated to miss before training."""
    cost: Cost


@dataclass(frozen=True)
class Depth:
    """The model at one depth, fitted to the teacher, and what its further choices would lose."""

    steps: tuple[Step, ...]
    lost: float
    graph: DimensionGraph
    choices: tuple[Choices, ...]
    damage: Damage


def explore_depths(
    teacher: nn.Module,
    graph: DimensionGraph,
    inputs: Mapping[str, Tensor],
    calibration: Sequence[Batch],
    held_out: Sequence[Batch],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Depth]:
    """The teacher whole, and with three quarters and a half of its longest stack's layers, evenly spread.

    A shallower model is started sequentially (see `build_student`), and what it misses of the teacher's outputs counts
    for every plan of that depth. What such a start takes back of a projection's damage is found at the whole depth.

    Args:
        graph: of the teacher.
        inputs: of the shape that the budget is about, but for the rows.
        calibration, held_out: as for `estimate_damage`.
    """
    stack = max(find_stacks(teacher), key=lambda each: each.depth, default=None)
    kept = _depths(stack.depth) if stack is not None else [None]
    judge = Judge(graph, held_out)
    shares: Shares = {}
    found = []
    for done, layers in enumerate(kept):
        progress(done, len(kept))
        steps: tuple[Step, ...] = () if layers is None else (DropLayers(keep=layers),)
        lost, own_graph = 0.0, graph
        if steps:
            model = fold(build_student(teacher, Plan(steps), inputs, calibration, graph=graph))
            lost, own_graph = judge.missed_by(model), trace(model, inputs)
        choices = find_choices(own_graph)
        damage = estimate_damage(own_graph, choices, calibration, held_out)
        if not steps:
            shares = left_after_start(teacher, choices, damage, inputs, calibration, judge, graph)
        found.append(Depth(steps, lost, own_graph, choices, with_starts(damage, shares)))
    progress(len(kept), len(kept))
    return found


def propose(depths: Sequence[Depth], spent: Spent, limit: float, batch: int = 1) -> list[Candidate]:
    """Plans within the budget, ascending by damage, no two alike; empty where none fits.

    Args:
        batch: rows of a pass.
    """
    found: dict[str, Candidate] = {}
    for depth in depths:
        counter = CostCounter(depth.graph, batch)
        for candidate in _at_depth(depth, counter, spent, limit):
            found.setdefault(str(candidate.plan), candidate)
    return sorted(found.values(), key=lambda each: each.damage)


def varied(candidates: Sequence[Candidate], count: int) -> list[Candidate]:
    """Of the plans of least damage a few, no two of the same parameters within 2 %: small variations teach nothing."""

    def differs(chosen: Sequence[Candidate], each: Candidate) -> bool:
        return all(abs(each.cost.parameters / other.cost.parameters - 1) > 0.02 for other in chosen)

    found: list[Candidate] = []
    for each in candidates:
        if differs(found, each):
            found.append(each)
    return list(islice(found, count))


def _at_depth(depth: Depth, counter: CostCounter, spent: Spent, limit: float) -> Iterator[Candidate]:
    for is_uniform in (True, False):
        allocations = allocate(
            depth.choices, depth.damage, lambda sizes: spent(counter.count(sizes)), limit, is_uniform=is_uniform
        )
        for each in allocations:
            plan = to_plan(depth.choices, each.sizes, depth.steps)
            yield Candidate(plan, depth.lost + each.damage, counter.count(each.sizes))


def _depths(depth: int) -> list[tuple[int, ...] | None]:
    """All layers, three quarters, a half, evenly spread, the last always among them."""
    counts = sorted({-(-depth * n // 4) for n in (2, 3)} - {depth}, reverse=True)
    return [None, *(tuple(-(-(i + 1) * depth // n) - 1 for i in range(n)) for n in counts)]
