"""Choosing among variants of a model by what was measured of them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A variant, how good it is and how long it takes."""

    name: str
    quality: float
    """The more, the better."""
    seconds: float | None
    """Of one run; None where it cannot be run here."""


def choose_fastest(candidates: Sequence[Candidate], least: float) -> Candidate:
    """The fastest of at least that quality, the first of them where none is timed; else the one of most quality."""
    good = [candidate for candidate in candidates if candidate.quality >= least]
    timed = [candidate for candidate in good if candidate.seconds is not None]
    if timed:
        return min(timed, key=lambda candidate: candidate.seconds or 0.0)
    return good[0] if good else max(candidates, key=lambda candidate: candidate.quality)
