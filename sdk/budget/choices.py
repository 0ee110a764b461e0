"""Which sizes are worth trying: eighths of every dimension that a plan may resize and that costs something."""

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from edgefold.dimensions import Dimension, DimensionGraph
from edgefold.hardware_sizes import MULTIPLE, round_up
from edgefold.plans import Plan, Project, Select, Step
from edgefold.resizing.layouts import axis_names

EIGHTHS = tuple(range(1, 9))
LEAST_SHARE = 0.01
"""Of all multiply-adds; what takes part in less of them is not worth a choice."""
PATIENCE = 1000
"""Random plans in a row that are none but known ones, after which there are held to be no others."""


@dataclass(frozen=True)
class Choices:
    """The sizes of one dimension, ascending, its own the last."""

    dimension: str
    kind: str
    sizes: tuple[int, ...]

    def step(self, size: int, pattern: str | None = None) -> Step:
        """The step of a plan; `pattern` for a family of dimensions that have one size."""
        name = pattern or self.dimension
        return Project(name, size) if self.kind == "linear" else Select(name, size)

    @property
    def family(self) -> str:
        return self.dimension.partition(".")[0]


def find_choices(graph: DimensionGraph, multiple_of: int = MULTIPLE) -> tuple[Choices, ...]:
    """Of every dimension that may be resized by itself: heads and groups whole, and what lies in no head.

    Sizes are multiples of `multiple_of`, but for numbers of heads.
    """
    total = sum(read.macs for read in graph.reads)
    inside = _inside_products(graph)
    found = []
    for dimension in graph:
        if dimension.kind == "fixed" or dimension.macs < LEAST_SHARE * total:
            continue
        if dimension.kind != "heads" and dimension.name in inside:
            continue
        sizes = _sizes(dimension, 1 if dimension.kind == "heads" else multiple_of)
        if len(sizes) > 1:
            found.append(Choices(dimension.name, dimension.kind, sizes))
    return tuple(found)


def to_plan(choices: Sequence[Choices], sizes: Mapping[str, int], first: Sequence[Step] = ()) -> Plan:
    """The plan that gives each dimension its size; a family of one size is one step, what keeps its size none."""
    steps: list[Step] = list(first)
    families: dict[str, list[Choices]] = {}
    for each in choices:
        families.setdefault(each.family, []).append(each)
    for family, members in families.items():
        wanted = {sizes[each.dimension] for each in members}
        if len(wanted) == 1 and len(members) > 1:
            (size,) = wanted
            steps += [members[0].step(size, family)] if any(size != each.sizes[-1] for each in members) else []
        else:
            steps += [each.step(sizes[each.dimension]) for each in members if sizes[each.dimension] != each.sizes[-1]]
    return Plan(steps)


def random_sizes(choices: Sequence[Choices], seed: int) -> Iterator[dict[str, int]]:
    """Sizes drawn for ever: of a family all alike and each for itself in turn, so that a fit sees both."""
    source = random.Random(seed)
    while True:
        shares = {each.family: source.random() for each in choices}
        yield {each.dimension: _at(each, shares[each.family]) for each in choices}
        alike = {each.family: source.random() for each in choices if each.kind == "linear"}
        yield {each.dimension: _at(each, alike.get(each.family, source.random())) for each in choices}


def distinct(plans: Iterable[Plan], count: int) -> list[Plan]:
    """The first `count` plans that differ; fewer where `PATIENCE` plans in a row bring no new one."""
    found: dict[str, Plan] = {}
    in_vain = 0
    for plan in plans:
        before = len(found)
        found.setdefault(json.dumps(plan.to_dicts()), plan)
        in_vain = 0 if len(found) > before else in_vain + 1
        if len(found) == count or in_vain == PATIENCE:
            break
    return list(found.values())


def _at(choices: Choices, share: float) -> int:
    return choices.sizes[min(int(share * len(choices.sizes)), len(choices.sizes) - 1)]


def _sizes(dimension: Dimension, multiple_of: int) -> tuple[int, ...]:
    rounded = {min(dimension.size, round_up(-(-dimension.size * n // 8), multiple_of)) for n in EIGHTHS}
    return tuple(sorted(rounded | {dimension.size}))


def _inside_products(graph: DimensionGraph) -> set[str]:
    """The dimensions that share an axis of some parameter with another."""
    axes = [axis for layout in graph.layouts.values() for axis in layout]
    return {name for axis in axes if prod(f.size for f in axis) > 1 and len(axis) > 1 for name in axis_names(axis)}
