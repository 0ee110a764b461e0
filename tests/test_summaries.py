"""The summary survives JSON, refuses what is no number, and says who is dominated by definition."""

import math
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.errors import InputError
from edgefold.reporting.summaries import CurveData, GateResult, ModelResult, find_dominated, load_summary

Make = Callable[..., Any]


@pytest.fixture
def student(make_result: Make) -> ModelResult:
    result: ModelResult = make_result("student int8", 0.84, 9.0, 5.8, "student")
    return result


def test_it_survives_json(tmp_path: Path, make_summary: Make, student: ModelResult) -> None:
    summary = make_summary([student], curves=(CurveData(name="loss", epochs=(1.0,), values=(0.5,)),))
    summary.write(tmp_path / "summary.json")
    assert load_summary(tmp_path / "summary.json") == summary


def test_a_loss_that_was_no_number_is_none(tmp_path: Path, make_summary: Make, student: ModelResult) -> None:
    curve = CurveData(name="loss", epochs=(1.0, 2.0, 3.0), values=(0.5, math.nan, math.inf))
    assert curve.values == (0.5, None, None)
    make_summary([student], curves=(curve,)).write(tmp_path / "summary.json")
    assert load_summary(tmp_path / "summary.json").curves == (curve,)


def test_any_other_figure_must_be_a_number() -> None:
    with pytest.raises(ValueError, match="finite number"):
        GateResult(name="fold", value=math.nan, limit=1e-5)


@pytest.mark.parametrize(
    ("content", "told"), [(None, "There is no summary"), (b"{}", "is not a summary.*Field required"), (b"[", "Invalid")]
)
def test_what_is_no_summary_is_refused(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "summary.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=told):
        load_summary(path)


@pytest.mark.parametrize(
    ("accuracy", "speed", "megabytes", "dominates"),
    [
        (0.84, 9.0, 5.8, False),  # equal in everything
        (0.84, 9.1, 5.8, False),  # the intervals overlap
        (0.84, 9.5, 5.8, True),  # clearly faster
        (0.84, 8.5, 5.0, False),  # smaller, but clearly slower
        (0.85, 8.95, 5.81, True),  # more accurate; as fast and as large within what can be told
        (0.90, 9.5, 6.0, False),  # larger
        (0.839, 20.0, 1.0, False),  # less accurate
        (0.84, 9.0, 5.0, True),  # smaller
    ],
)
def test_domination_is_by_definition(
    make_result: Make, student: ModelResult, accuracy: float, speed: float, megabytes: float, dominates: bool
) -> None:
    rival = make_result("rival", accuracy, speed, megabytes)
    assert find_dominated([student, rival]).get(student.name) == ("rival" if dominates else None)


def test_the_best_of_those_that_dominate_is_named(make_result: Make, student: ModelResult) -> None:
    rivals = [make_result("good", 0.85, 10.0, 5.0), make_result("better", 0.86, 11.0, 4.0)]
    assert find_dominated([student, *rivals]) == {"student int8": "better", "good": "better"}


figures = st.tuples(st.sampled_from((0.80, 0.81, 0.82)), st.floats(1, 10), st.floats(1, 90))


@given(st.lists(figures, min_size=2, max_size=5))
def test_no_two_dominate_each_other(make_result: Make, drawn: list[tuple[float, float, float]]) -> None:
    results = [make_result(str(index), *values) for index, values in enumerate(drawn)]
    for a, b in permutations(results, 2):
        assert len(find_dominated([a, b])) <= 1


def test_the_standard_error_is_binomial(make_result: Make) -> None:
    assert make_result("coin", 0.5, 1.0, 1.0).standard_error(100) == pytest.approx(0.05)
