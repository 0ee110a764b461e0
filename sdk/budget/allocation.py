"""The sizes that lose least within a latency: dynamic programming over layers, one table for each hidden size."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil

from edgefold.budget.choices import Choices
from edgefold.budget.damage import Damage

BINS = 2000
"""Into which the seconds to be spent are parted; each choice is rounded up, so that a budget is kept."""
STEP, STEPS = 0.97, 150
"""By which fewer bins are spent, and how often, where a choice turns out beyond its limit."""

Seconds = Callable[[Mapping[str, int]], float]
Option = tuple[int, float, int]
"""A size, what it loses, and the bins that it spends."""


@dataclass(frozen=True)
class Allocation:
    """A size for every dimension, with what is expected of it."""

    sizes: Mapping[str, int]
    damage: float
    seconds: float


def allocate(
    choices: Sequence[Choices], damage: Damage, seconds: Seconds, limit: float, *, is_uniform: bool = False
) -> list[Allocation]:
    """For every size of the linear dimensions the best sizes of all others within `limit`, the least damage first.

    Minimises the sum of the damages subject to the latency, which the choices of different layers add to
    independently once the linear dimensions, which all layers share, are fixed. Empty where nothing is fast enough.
    Source: the structure-aware dynamic programme of SPDY and ZipLM (Frantar and Alistarh, 2022; Kurtic et al., 2023).

    Args:
        seconds: of a forward pass at these sizes; the dimensions left out keep theirs.
        is_uniform: whether the dimensions of a family (ffn.0, ffn.1, ...) have one size, so that a student stays an
            ordinary checkpoint of its architecture.
    """
    shared = [each for each in choices if each.kind == "linear"]
    groups = _groups([each for each in choices if each.kind != "linear"], is_uniform)
    found = []
    for sizes in product(*(each.sizes for each in shared)):
        fixed = {each.dimension: size for each, size in zip(shared, sizes, strict=True)}
        lost = sum(damage[name][size] for name, size in fixed.items())
        best = _best(groups, damage, seconds, limit, fixed)
        if best is not None:
            chosen = {**fixed, **best}
            total = lost + sum(damage[name][size] for name, size in best.items())
            found.append(Allocation(chosen, total, seconds(chosen)))
    return sorted(found, key=lambda each: each.damage)


def _groups(choices: Sequence[Choices], is_uniform: bool) -> list[list[Choices]]:
    """The choices that are made together: of a family with the same sizes, or each alone."""
    if not is_uniform:
        return [[each] for each in choices]
    together: dict[tuple[str, tuple[int, ...]], list[Choices]] = {}
    for each in choices:
        together.setdefault((each.family, each.sizes), []).append(each)
    return list(together.values())


def _best(
    groups: Sequence[Sequence[Choices]], damage: Damage, seconds: Seconds, limit: float, fixed: Mapping[str, int]
) -> dict[str, int] | None:
    """The sizes of least damage with seconds(fixed and sizes) <= limit; None where even the smallest are slower.

    Two dimensions along one matrix cost more together than what either adds alone, so that what is chosen may be
    beyond the limit; then fewer bins are spent.
    """
    smallest = {each.dimension: each.sizes[0] for group in groups for each in group}
    floor = seconds({**fixed, **smallest})
    if floor > limit:
        return None
    width = max((limit - floor) / BINS, 1e-30)
    options = [list(_options(group, damage, seconds, {**fixed, **smallest}, floor, width)) for group in groups]
    most = BINS + len(groups)  # rounding up wastes a bin of each group at most: often there is room
    best = _least(options, most)
    for bins in (most, *(int(BINS * STEP**step) for step in range(STEPS)), 0):
        sizes = best[bins][1]
        chosen = {each.dimension: size for group, size in zip(groups, sizes, strict=True) for each in group}
        if seconds({**fixed, **chosen}) <= limit * (1 + 1e-12):
            break
    return chosen


def _least(groups: Sequence[Sequence[Option]], bins: int) -> list[tuple[float, tuple[int, ...]]]:
    """For each number of bins up to this the least damage that they pay for, and the size of each group."""
    # best[b]: with at most b bins spent on the groups so far
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] * (bins + 1)
    for options in groups:
        best = [min(_ways(best, options, spent)) for spent in range(bins + 1)]
    return best


def _ways(
    best: Sequence[tuple[float, tuple[int, ...]]], options: Sequence[Option], bins: int
) -> Iterator[tuple[float, tuple[int, ...]]]:
    """Each choice of a further group that `bins` pay for, with the best that the rest pays for."""
    for size, lost, spent in options:
        if spent <= bins:
            before, sizes = best[bins - spent]
            yield before + lost, (*sizes, size)


def _options(
    group: Sequence[Choices], damage: Damage, seconds: Seconds, smallest: Mapping[str, int], floor: float, width: float
) -> Iterator[Option]:
    """Size, damage and bins of each choice of a group; the smallest costs no bin, so there is always one."""
    for size in group[0].sizes:
        extra = seconds({**smallest, **{each.dimension: size for each in group}}) - floor
        yield size, sum(damage[each.dimension][size] for each in group), ceil(max(0.0, extra) / width)
