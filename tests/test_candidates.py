"""The fastest that is good enough."""

import pytest

from edgefold.cli.candidates import Candidate, choose_fastest


@pytest.mark.parametrize(
    ("seconds", "least", "chosen"),
    [
        ((3.0, 2.0, 1.0), 0.85, "b"),  # c is the fastest and not good enough
        ((3.0, 2.0, 1.0), 0.5, "c"),
        ((3.0, 2.0, 1.0), 0.99, "a"),  # none is: the best
        ((None, None, None), 0.85, "a"),  # none is timed: the first
        ((None, 2.0, None), 0.85, "b"),
    ],
)
def test_the_fastest_of_enough_quality_is_chosen(seconds: tuple[float | None, ...], least: float, chosen: str) -> None:
    candidates = [Candidate(*each) for each in zip("abc", (0.95, 0.9, 0.6), seconds, strict=True)]
    assert choose_fastest(candidates, least).name == chosen
