"""A latency as a sum of what a network costs, fitted to a few measurements of the device itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import torch
from torch import Tensor

from edgefold.budget.costs import Cost
from edgefold.errors import InputError

TERMS = ("macs", "pair_macs", "weights", "values", "operators")
CONSTANT = "constant"
LEAST = 4
"""Measurements from which anything can be said about an error."""


@dataclass(frozen=True)
class LatencyModel:
    """seconds = constant + sum of coefficient * term of the cost, no coefficient below zero."""

    coefficients: Mapping[str, float]
    errors: tuple[float, ...]
    """|predicted - measured| / measured of each measurement, predicted from all the others."""

    @property
    def median_error(self) -> float:
        return median(self.errors)

    def predict(self, cost: Cost) -> float:
        """Seconds of one pass."""
        return sum(
            value * (1.0 if name == CONSTANT else getattr(cost, name)) for name, value in self.coefficients.items()
        )


def fit_latency(
    costs: Sequence[Cost], seconds: Sequence[float], weights: Sequence[float] | None = None
) -> LatencyModel:
    """The non-negative coefficients that minimise the sum of squared relative errors, weighted where there are weights.

    The error of the model is that of leaving each measurement out: what it would have been told of a plan it has not
    seen.

    Raises:
        InputError: fewer than four measurements, of unequal number, or one that is no time.
    """
    if len(costs) != len(seconds) or len(costs) < LEAST:
        raise InputError(
            f"A latency model needs at least {LEAST} measurements, each with its cost; got {len(costs)} costs and "
            f"{len(seconds)} times. Measure more plans."
        )
    if not all(0 < each < float("inf") for each in seconds):
        raise InputError(f"Measured times must be finite and above 0 seconds; got {list(seconds)}.")
    features = torch.tensor([_features(cost) for cost in costs], dtype=torch.float64)
    times = torch.tensor(seconds, dtype=torch.float64)
    shares = torch.ones_like(times) if weights is None else torch.tensor(weights, dtype=torch.float64)
    errors = []
    for left_out in range(len(times)):
        rest = torch.arange(len(times)) != left_out
        found = _fit(features[rest], times[rest], shares[rest])
        errors.append(abs(float(features[left_out] @ found) / seconds[left_out] - 1))
    found = _fit(features, times, shares)
    return LatencyModel(dict(zip((CONSTANT, *TERMS), found.tolist(), strict=True)), tuple(errors))


def _features(cost: Cost) -> list[float]:
    return [1.0, *(float(getattr(cost, name)) for name in TERMS)]


def _fit(features: Tensor, times: Tensor, weights: Tensor) -> Tensor:
    """argmin over c >= 0 of sum w (features c / times - 1)^2, over every set of terms, for they are few: (terms,).

    At the minimum the terms above zero are the least-squares solution on themselves alone.
    """
    rows = features / times[:, None]
    scale = rows.abs().amax(0).clamp_min(1e-300)
    roots = weights.sqrt()
    rows = rows / scale * roots[:, None]
    best, best_error = torch.zeros(features.shape[1], dtype=features.dtype), float(weights.sum())
    for count in range(1, features.shape[1] + 1):
        for chosen in combinations(range(features.shape[1]), count):
            part = torch.linalg.lstsq(rows[:, chosen], roots[:, None], driver="gelsd").solution[:, 0]
            error = float((rows[:, chosen] @ part - roots).square().sum())
            if error < best_error - 1e-12 and bool((part >= 0).all()):
                best = torch.zeros_like(best).index_put((torch.tensor(chosen),), part)
                best_error = error
    return best / scale
