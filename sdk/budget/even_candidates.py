"""The plan that one would make without estimates, every dimension at one share: a check on those made with them."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgefold.budget.candidates import Candidate, Depth, Spent, propose, varied
from edgefold.budget.choices import to_plan
from edgefold.budget.costs import CostCounter
from edgefold.hardware_sizes import MULTIPLE, round_up

PARTS = 200
"""Into which the shares between none and all are parted."""


def choose(depths: Sequence[Depth], spent: Spent, limit: float, count: int, batch: int = 1) -> list[Candidate]:
    """Different plans of least estimated damage, and last the even plan of the whole depth, whatever its estimate.

    Damage before training is not damage after it, so that a search by estimates alone may end behind the even plan.

    Args:
        depths: the whole one first.
        batch: rows of a pass.
    """
    even = even_candidate(depths[0], spent, limit, batch)
    proposed = propose(depths, spent, limit, batch)
    if even is None or count == 1:
        return varied(proposed, count)
    others = [each for each in proposed if each.plan.to_dicts() != even.plan.to_dicts()]
    return [*varied(others, count - 1), even]


def even_candidate(depth: Depth, spent: Spent, limit: float, batch: int = 1) -> Candidate | None:
    """Every dimension at the largest share of its size that meets the budget, in finer steps than those of choices.

    None where even the smallest is beyond it.
    """
    counter = CostCounter(depth.graph, batch)
    for part in range(PARTS, 0, -1):
        sizes = {}
        for each in depth.choices:
            full = each.sizes[-1]
            multiple = 1 if each.kind == "heads" else MULTIPLE
            sizes[each.dimension] = min(full, round_up(-(-full * part // PARTS), multiple))
        cost = counter.count(sizes)
        if spent(cost) <= limit:
            lost = sum(_between(depth.damage[name], size) for name, size in sizes.items())
            return Candidate(to_plan(depth.choices, sizes, depth.steps), depth.lost + lost, cost)
    return None


def _between(damage: Mapping[int, float], size: int) -> float:
    """Of a size between two that were estimated: on the line from one to the other."""
    known = sorted(damage)
    return float(np.interp(size, known, [damage[each] for each in known]))
