"""The table of tasks: every task has its form of data, and its metrics say which way is better."""

from typing import get_args

import pytest

from edgefold.recipes.data import DATA, DataSettings
from edgefold.tasks.table import TASKS
from edgefold.tasks.task import Metric

ERRORS = {"perplexity", "word_error_rate", "mean_squared_error"}


def test_every_task_has_its_form_of_data() -> None:
    assert list(TASKS) == list(DATA)
    assert set(DATA.values()) == set(get_args(DataSettings))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_has_a_metric_that_counts(name: str) -> None:
    smaller_is_better = {metric.name for metric in TASKS[name].metrics if not metric.greater_is_better}
    assert TASKS[name].metrics
    assert smaller_is_better <= ERRORS
    assert not ERRORS & {m.name for m in TASKS[name].metrics if m.greater_is_better}


def test_the_share_of_the_teachers_quality() -> None:
    accuracy, perplexity = Metric("accuracy"), Metric("perplexity", greater_is_better=False)
    assert accuracy.share_of_teacher(0.4, 0.8) == 0.5
    assert perplexity.share_of_teacher(20.0, 10.0) == 0.5
    assert accuracy.share_of_teacher(0.4, 0.0) is None
    assert perplexity.share_of_teacher(float("inf"), 10.0) is None
