"""Mask steps: schedules that start and end where they say, and settings that can never be right."""

from collections.abc import Callable
from typing import Any

import pytest

from edgefold.errors import InputError
from edgefold.masks.steps import NM, STAIRS, Block, Unstructured, sparsity_at, zeros_at
from edgefold.plans import STEPS, Plan


def test_the_schedule_is_cubic_between_its_ends() -> None:
    step = Unstructured(0.8, begin=0.2, end=0.6)
    assert [sparsity_at(step, progress) for progress in (0.0, 0.1, 0.2)] == [0.0, 0.0, 0.0]
    assert [sparsity_at(step, progress) for progress in (0.6, 0.9, 1.0)] == [0.8, 0.8, 0.8]
    assert sparsity_at(step, 0.2 + 0.4 * 0.5 + 1e-9) == pytest.approx(0.8 * (1 - 0.5**3))
    assert sparsity_at(step, 0.2 + 0.4 * 0.1 + 1e-9) == pytest.approx(0.8 * (1 - 0.9**3))


def test_the_schedule_rises_in_stairs_and_never_falls() -> None:
    step = Unstructured(0.8, begin=0.0, end=0.5)
    values = [sparsity_at(step, i / 1000) for i in range(1001)]
    assert values == sorted(values)
    assert len(set(values)) == STAIRS + 1


def test_without_a_span_all_zeros_are_there_at_once() -> None:
    assert sparsity_at(Unstructured(0.8, end=0.0), 0.0) == 0.8
    assert sparsity_at(NM(2, 4), 0.0) == 0.5


@pytest.mark.parametrize(("n", "m"), [(1, 3), (2, 4), (3, 7), (1, 10)])
def test_patterns_end_with_exactly_their_zeros(n: int, m: int) -> None:
    """0.7 * 10 is no whole number in floating point, but seven of ten are."""
    assert zeros_at(NM(n, m, end=0.5), 1000 * m, 0.5) == 1000 * (m - n)
    assert zeros_at(NM(n, m, end=0.5), 1000 * m, 0.4) < 1000 * (m - n)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Unstructured(0.0), r"Unstructured\(sparsity=0.0\) must be a share between 0 and 1, such as 0.8"),
        (lambda: Unstructured(1.0), r"sparsity=1.0\) must be a share"),
        (lambda: Unstructured(float("nan")), r"sparsity=nan\) must be a share"),
        (lambda: Unstructured(True), r"sparsity=True\) must be a share"),
        (lambda: Block(80), r"Block\(sparsity=80\) must be a share"),
        (
            lambda: Block(0.5, (4,)),
            r"Block\(shape=\(4,\)\) must be two whole numbers .* \(outputs, inputs\)",
        ),
        (lambda: Block(0.5, (4, 0)), r"Block\(shape=\(4, 0\)\) must be two whole numbers"),
        (lambda: NM(4, 4), r"NM\(4, 4\) must be whole numbers with 1 <= n < m; such as NM\(2, 4\)"),
        (lambda: NM(0, 4), r"NM\(0, 4\) must be whole numbers"),
        (lambda: NM(2, 4.0), r"NM\(2, 4.0\) must be whole numbers"),  # type: ignore[arg-type]
        (lambda: NM(2, 4, score="taylor"), r"score='taylor'\) is not known; choose one of magnitude, movement, wanda"),
        (
            lambda: NM(2, 4, score="movement"),
            r"NM\(score='movement', end=0\) has no movement .* set end above 0",
        ),
        (lambda: Unstructured(0.5, begin=0.6), r"begin=0.6, end=0.5\) must be shares .* 0 <= begin <= end <= 1"),
        (lambda: Block(0.5, end=1.5), r"begin=0.0, end=1.5\) must be shares of training"),
        (lambda: Unstructured(0.5, begin="0"), r"begin='0', end=0.5\) must be shares"),  # type: ignore[arg-type]
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_the_plain_form_makes_the_same_steps() -> None:
    steps = [Unstructured(0.8, "a", score="wanda"), Block(0.5, (2, 8), "b", begin=0.1), NM(2, 4, "c", end=0.3)]
    again = [STEPS[key](**fields) for entry in Plan(steps).to_dicts() for key, fields in entry.items()]
    assert again == steps
