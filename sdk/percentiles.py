"""Nearest-rank percentiles and their intervals from order statistics; nothing is assumed of the distribution."""

import math
from collections.abc import Sequence

TAIL = 0.025
"""Left out on either side of an interval of 95 %."""
DEVIATIONS = 8
"""Beyond so many standard deviations a binomial's mass is below a double's precision."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest value that `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def percentile_interval(values: Sequence[float], percent: float) -> tuple[float, float]:
    """The 95 % interval of a percentile, [x_(l), x_(u)].

    How many of n values lie below the true percentile is binomial, B ~ Bin(n, p), so x_(l) is above it with P(B < l)
    and x_(u) below it with P(B >= u); l is the largest and u the smallest rank for which these are at most 2.5 %. With
    few values no such rank exists, and the least or the greatest value stands for it. (Hahn and Meeker, 1991.)
    """
    ordered = sorted(values)
    low, high = _ranks(len(ordered), percent / 100)
    return ordered[max(low, 1) - 1], ordered[min(high, len(ordered)) - 1]


def _ranks(n: int, p: float) -> tuple[int, int]:
    """l and u, from 0 to n + 1."""
    reach = DEVIATIONS * math.sqrt(n * p * (1 - p)) + 1
    below, low, high = 0.0, 0, n + 1
    for k in range(max(0, math.floor(n * p - reach)), min(n, math.ceil(n * p + reach)) + 1):
        if below <= TAIL:  # P(B < k)
            low = k
        below += _mass(n, p, k)
        if 1 - below <= TAIL:  # P(B >= k + 1)
            high = k + 1
            break
    return low, high


def _mass(n: int, p: float, k: int) -> float:
    """P(B = k)."""
    if p in (0.0, 1.0):
        return float(k == n * p)
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(ways + k * math.log(p) + (n - k) * math.log1p(-p))
