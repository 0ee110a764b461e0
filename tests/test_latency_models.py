"""A latency model finds the coefficients that made its times, and says how far off it is where none did."""

import random

import pytest

from edgefold.budget.costs import Cost
from edgefold.budget.latency_models import LEAST, LatencyModel, fit_latency
from edgefold.errors import InputError


def some_costs(count: int) -> list[Cost]:
    source = random.Random(0)
    return [
        Cost(*(source.uniform(1, 9) * unit for unit in (1e8, 1e6, 1e7, 1e5)), source.randint(50, 90), 7)
        for _ in range(count)
    ]


def true_seconds(cost: Cost) -> float:
    return 1e-3 + 2e-11 * cost.macs + 1e-10 * cost.pair_macs + 3e-5 * cost.operators


def test_times_that_are_a_sum_of_costs_are_reproduced() -> None:
    costs = some_costs(12)
    model = fit_latency(costs, [true_seconds(cost) for cost in costs])
    assert model.median_error < 1e-6
    unseen = some_costs(20)[12:]
    assert [model.predict(cost) for cost in unseen] == pytest.approx([true_seconds(cost) for cost in unseen], rel=1e-6)
    wanted = {"constant": 1e-3, "macs": 2e-11, "pair_macs": 1e-10, "weights": 0, "values": 0, "operators": 3e-5}
    assert model.coefficients == pytest.approx(wanted, rel=1e-5, abs=1e-15)


def test_no_coefficient_is_below_zero_and_the_fit_is_the_best_such() -> None:
    costs = some_costs(16)
    times = [max(1e-4, true_seconds(cost) - 4e-9 * cost.values) for cost in costs]
    model = fit_latency(costs, times)
    assert min(model.coefficients.values()) == 0

    def error(coefficients: dict[str, float]) -> float:
        pairs = zip(costs, times, strict=True)
        return sum(
            (sum(v * (1 if n == "constant" else getattr(c, n)) for n, v in coefficients.items()) / t - 1) ** 2
            for c, t in pairs
        )

    best = error(dict(model.coefficients))
    for name, value in model.coefficients.items():
        for moved in (value * 1.01, value * 0.99, value + 1e-14):
            assert error({**model.coefficients, name: moved}) >= best - 1e-12


def test_the_error_is_that_of_times_it_was_not_fitted_to() -> None:
    costs = some_costs(16)
    times = [true_seconds(cost) for cost in costs]
    times[3] *= 1.5
    model = fit_latency(costs, times)
    assert len(model.errors) == 16
    assert model.errors[3] == pytest.approx(1 / 3)  # the others say what it would have been
    assert 0 < model.median_error < model.errors[3]


@pytest.mark.parametrize("times", [[1.0] * (LEAST - 1), [1.0] * LEAST + [0.0], [1.0] * LEAST + [float("nan")]])
def test_what_is_no_set_of_measurements_is_refused(times: list[float]) -> None:
    with pytest.raises(InputError, match=r"measurements|above 0 seconds"):
        fit_latency(some_costs(len(times)), times)


def test_weights_say_where_a_model_is_to_be_right() -> None:
    costs = some_costs(16)
    times = [true_seconds(cost) * (1.3 if true_seconds(cost) < 8e-3 else 1.0) for cost in costs]
    near = min(times)
    evenly = fit_latency(costs, times)
    weighted = fit_latency(costs, times, [min(time / near, near / time) ** 4 for time in times])
    place = times.index(near)

    def off(model: LatencyModel) -> float:
        return abs(model.predict(costs[place]) / near - 1)

    assert off(weighted) < off(evenly)
    same = fit_latency(costs, times, [2.0] * len(times))
    assert same.coefficients == pytest.approx(evenly.coefficients, rel=1e-6)
