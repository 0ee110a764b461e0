"""Percentiles against their definition; intervals against the true percentile, and against SciPy's binomial."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from edgefold.percentiles import _ranks, percentile, percentile_interval

times = st.lists(st.floats(1e-6, 10), min_size=1, max_size=60)


@given(times, st.floats(0, 100))
def test_the_percentile_is_the_smallest_value_that_covers_its_share(values: list[float], percent: float) -> None:
    covering = [v for v in values if sum(other <= v for other in values) >= percent / 100 * len(values)]
    assert percentile(values, percent) == min(covering)


@given(times, st.randoms(use_true_random=False), st.sampled_from([50, 90, 99]))
def test_the_order_does_not_matter(values: list[float], generator: random.Random, percent: int) -> None:
    shuffled = generator.sample(values, len(values))
    assert percentile(shuffled, percent) == percentile(values, percent)
    assert percentile_interval(shuffled, percent) == percentile_interval(values, percent)


@given(times, st.floats(0, 100))
def test_the_interval_holds_the_percentile(values: list[float], percent: float) -> None:
    low, high = percentile_interval(values, percent)
    assert min(values) <= low <= percentile(values, percent) <= high <= max(values)


@pytest.mark.parametrize("n", [64, 662, 5000])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.99])
def test_no_narrower_ranks_would_do(n: int, p: float) -> None:
    low, high = _ranks(n, p)
    assert binom.cdf(low - 1, n, p) <= 0.025 < binom.cdf(low, n, p)
    if high <= n:
        assert binom.sf(high - 1, n, p) <= 0.025 < binom.sf(high - 2, n, p)
    else:
        assert binom.sf(n - 1, n, p) > 0.025


def test_with_the_runs_that_it_takes_every_bound_is_one_of_the_values() -> None:
    for n, p in ((64, 0.9), (662, 0.99)):
        low, high = _ranks(n, p)
        assert 1 <= low < high <= n


@pytest.mark.parametrize(("percent", "runs"), [(50, 80), (90, 80), (99, 700)])
def test_it_covers_the_true_percentile_about_as_often_as_it_says(percent: int, runs: int) -> None:
    generator = random.Random(0)
    truth = -math.log(1 - percent / 100)
    covered = 0
    for _ in range(400):
        low, high = percentile_interval([generator.expovariate(1) for _ in range(runs)], percent)
        covered += low <= truth <= high
    assert covered / 400 >= 0.93  # 95 % stated; 400 draws have a standard error of 1 %
