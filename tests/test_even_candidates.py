"""Among the plans of a search is the one that needs no estimates, as large as the budget allows."""

from functools import cache

import torch
from torch import nn

from edgefold.budget.candidates import Depth, explore_depths
from edgefold.budget.costs import Cost, CostCounter
from edgefold.budget.even_candidates import choose, even_candidate
from edgefold.dimensions import trace

LIMIT = 900.0


@cache
def found_depths() -> tuple[Depth, ...]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3)).eval()
    inputs = {"input": torch.randn(8, 6)}
    return tuple(explore_depths(module, trace(module, inputs), inputs, [inputs], [inputs]))


def spent(cost: Cost) -> float:
    return float(cost.parameters)


def sizes_of(limit: float) -> dict[str, int]:
    even = even_candidate(found_depths()[0], spent, limit)
    assert even is not None
    return {step.dimension: step.size for step in even.plan.steps}  # type: ignore[union-attr]


def test_every_dimension_keeps_the_same_share() -> None:
    depth = found_depths()[0]
    shares = {each.dimension: sizes_of(LIMIT)[each.dimension] / each.sizes[-1] for each in depth.choices}
    assert len(shares) == 2
    assert max(shares.values()) - min(shares.values()) <= 8 / 32  # sizes are multiples of 8


def test_it_meets_the_budget_and_the_next_larger_one_does_not() -> None:
    depth = found_depths()[0]
    even = even_candidate(depth, spent, LIMIT)
    assert even is not None
    assert even.cost.parameters <= LIMIT
    larger = {name: size + 8 for name, size in sizes_of(LIMIT).items()}
    assert CostCounter(depth.graph).count(larger).parameters > LIMIT


def test_its_damage_lies_between_those_that_were_estimated() -> None:
    depth = found_depths()[0]
    even = even_candidate(depth, spent, LIMIT)
    assert even is not None
    around = [
        sorted(depth.damage[name][pick(s for s in depth.damage[name] if ok(s, size))] for pick, ok in NEIGHBOURS)
        for name, size in sizes_of(LIMIT).items()
    ]
    assert sum(low for low, _ in around) <= even.damage <= sum(high for _, high in around)


NEIGHBOURS = ((max, int.__le__), (min, int.__ge__))


def test_it_is_the_last_of_those_that_are_chosen_and_there_but_once() -> None:
    depths = found_depths()
    even = even_candidate(depths[0], spent, LIMIT)
    assert even is not None
    chosen = [each.plan.to_dicts() for each in choose(depths, spent, LIMIT, 3)]
    assert chosen[-1] == even.plan.to_dicts()
    assert 1 < len(chosen) <= 3
    assert chosen.count(chosen[-1]) == 1
    (only,) = choose(depths, spent, LIMIT, 1)
    assert only.damage <= even.damage


def test_where_nothing_fits_there_is_none() -> None:
    assert even_candidate(found_depths()[0], spent, 10.0) is None
    assert choose(found_depths(), spent, 10.0, 3) == []
