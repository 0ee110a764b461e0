"""The allocation is the best there is, by trying them all."""

import random
from itertools import product
from typing import Any

import pytest

from edgefold.budget.allocation import allocate
from edgefold.budget.choices import Choices

CHOICES = [
    Choices("hidden", "linear", (16, 32)),
    *(Choices(f"ffn.{i}", "permutation", (8, 16, 24, 32)) for i in range(3)),
    *(Choices(f"heads.{i}", "heads", (1, 2, 4)) for i in range(2)),
]


def some_damage() -> dict[str, dict[int, float]]:
    """Less for larger sizes, none for the full one."""
    source = random.Random(1)
    found = {}
    for each in CHOICES:
        losses = sorted((source.random() for _ in each.sizes[:-1]), reverse=True)
        found[each.dimension] = dict(zip(each.sizes, [*losses, 0.0], strict=True))
    return found


def seconds(sizes: dict[str, int]) -> float:
    full = {each.dimension: each.sizes[-1] for each in CHOICES}
    all_sizes = {**full, **sizes}
    return 1.0 + all_sizes["hidden"] * (sum(v for n, v in all_sizes.items() if n != "hidden") / 8 + 2)


def every(is_uniform: bool) -> list[dict[str, int]]:
    found: list[dict[str, Any]] = [
        dict(zip((each.dimension for each in CHOICES), sizes, strict=True))
        for sizes in product(*(each.sizes for each in CHOICES))
    ]
    if not is_uniform:
        return found
    return [s for s in found if len({s[f"ffn.{i}"] for i in range(3)}) == len({s[f"heads.{i}"] for i in range(2)}) == 1]


@pytest.mark.parametrize("is_uniform", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 1.0])
def test_nothing_within_the_budget_loses_less(share: float, is_uniform: bool) -> None:
    damage, limit = some_damage(), share * seconds({})
    found = allocate(CHOICES, damage, seconds, limit, is_uniform=is_uniform)
    fitting = [sizes for sizes in every(is_uniform) if seconds(sizes) <= limit]
    least = min(sum(damage[name][size] for name, size in sizes.items()) for sizes in fitting)
    assert found[0].damage == pytest.approx(least, rel=1e-2, abs=1e-9)  # times are rounded up to a 2000th
    assert all(each.seconds <= limit for each in found)
    assert [each.damage for each in found] == sorted(each.damage for each in found)
    assert len({each.sizes["hidden"] for each in found}) == len(found)
    if is_uniform:
        assert all(len({each.sizes[f"ffn.{i}"] for i in range(3)}) == 1 for each in found)


def test_a_budget_that_nothing_meets_has_no_allocation() -> None:
    assert allocate(CHOICES, some_damage(), seconds, 0.9 * min(seconds(s) for s in every(False))) == []


@pytest.mark.parametrize("share", [0.15, 0.3, 0.6, 0.9])
def test_dimensions_along_one_matrix_stay_within_the_budget_together(share: float) -> None:
    """Their product costs more than what either of them adds to the smallest sizes alone."""
    choices = [Choices(f"units.{i}", "permutation", (8, 32, 64, 128)) for i in range(4)]
    damage = {
        each.dimension: {size: (128 - size) / (128 * (i + 1)) for size in each.sizes} for i, each in enumerate(choices)
    }

    def chained(sizes: dict[str, int]) -> float:
        wide = [{each.dimension: each.sizes[-1] for each in choices}[f"units.{i}"] for i in range(4)]
        used = [sizes.get(f"units.{i}", wide[i]) for i in range(4)]
        return float(sum(a * b for a, b in zip([4, *used], [*used, 2], strict=True)))

    limit = share * chained({})
    (found,) = allocate(choices, damage, chained, limit)
    assert found.seconds <= limit
    assert found.seconds > 0.4 * limit
