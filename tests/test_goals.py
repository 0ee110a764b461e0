"""Budgets are read in the units that people use, and nothing else is taken for one."""

import pytest

from edgefold.budget.costs import Cost
from edgefold.budget.goals import parse_budget
from edgefold.errors import InputError


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("latency=5ms", "latency", 5e-3),
        ("latency=0.25 s", "latency", 0.25),
        ("speedup=4x", "speedup", 4),
        ("speedup=2.5", "speedup", 2.5),
        ("size=10MB", "size", 1e7),
        ("size=1MiB", "size", 2**20),
        ("flops=200M", "flops", 2e8),
        ("flops=1e9", "flops", 1e9),
    ],
)
def test_a_budget_is_what_it_says(text: str, kind: str, value: float) -> None:
    budget = parse_budget(text)
    assert (budget.kind, budget.value) == (kind, pytest.approx(value))


@pytest.mark.parametrize(
    "text", ["", "5ms", "latency", "latency=", "latency=5", "latency=-5ms", "latency=0ms", "size=4x", "energy=3J"]
)
def test_anything_else_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(InputError, match="latency=5ms, speedup=4x, size=10MB or flops=200M"):
        parse_budget(text)


def test_what_is_spent_is_in_the_unit_of_the_limit() -> None:
    cost = Cost(macs=100, pair_macs=20, weights=7, values=8, operators=9, parameters=50)
    assert parse_budget("speedup=4x").limit(2.0) == 0.5
    assert parse_budget("latency=5ms").limit(2.0) == 5e-3
    assert parse_budget("latency=5ms").spent(cost, 3e-3, "fp32") == 3e-3
    assert [parse_budget("size=10MB").spent(cost, 1.0, precision) for precision in ("fp32", "int8")] == [200, 50]
    assert parse_budget("flops=200M").spent(cost, 1.0, "fp32") == 240
