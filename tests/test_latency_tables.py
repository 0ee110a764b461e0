"""Measurements are kept: a killed run loses one at most, and another device's are not taken for this one's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.latency_tables import LatencyTable, Timing, measure_plans
from edgefold.errors import InputError
from edgefold.plans import Plan, Select

PLANS = [Plan([]), *(Plan([Select("ffn", size)]) for size in (8, 16, 24))]
KEY = {"device": "here", "precision": "fp32"}


class Clock:
    """A device on which a pass takes 1 ns for each parameter, and which slows down from pass to pass."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.measured = 0
        self._fails_at = fails_at

    def __call__(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Timing:
        if self.measured == self._fails_at:
            raise KeyboardInterrupt
        self.measured += 1
        slowness = 1 + 0.3 * self.measured
        size = sum(parameter.numel() for parameter in module.parameters())
        return Timing(seconds=1e-9 * size * slowness, teacher_seconds=1e-3 * slowness)


def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    path, students = tmp_path / "table.json", BlankStudents(make_bert(), text_batch())
    with pytest.raises(KeyboardInterrupt):
        measure_plans(students, PLANS, Clock(fails_at=2), key=KEY, path=path)
    assert len(LatencyTable.model_validate_json(path.read_text()).entries) == 2
    again = Clock()
    table = measure_plans(students, PLANS, again, key=KEY, path=path)
    assert (again.measured, len(table.entries)) == (2, 4)
    assert [entry.plan for entry in table.entries] == [plan.to_dicts() for plan in PLANS]


def test_a_slow_moment_strikes_student_and_teacher_alike(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    table = measure_plans(BlankStudents(make_bert(), text_batch()), PLANS, Clock(), key=KEY)
    per_parameter = [table.seconds(entry) / entry.cost.parameters for entry in table.entries]
    assert per_parameter == pytest.approx([per_parameter[0]] * len(PLANS))
    assert table.fit().median_error < 0.01  # parameters are a sum of the terms where only the neurons change


def test_measurements_of_another_device_are_refused(
    tmp_path: Path, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    path, students = tmp_path / "table.json", BlankStudents(make_bert(), text_batch())
    measure_plans(students, PLANS[:1], Clock(), key=KEY, path=path)
    with pytest.raises(InputError, match=r"another device.*'here'.*'there'"):
        measure_plans(students, PLANS, Clock(), key={**KEY, "device": "there"}, path=path)
    path.write_text("{")
    with pytest.raises(InputError, match="no latency table"):
        measure_plans(students, PLANS, Clock(), key=KEY, path=path)
