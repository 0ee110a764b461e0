"""A latency table: a few plans measured on the device, each against the teacher, kept in a file for the next search."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.costs import Cost
from edgefold.budget.latency_models import LatencyModel, fit_latency
from edgefold.errors import InputError
from edgefold.plans import Plan
from edgefold.staging import staged_file


class Timing(BaseModel):
    """One student and the teacher, measured in turns."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    seconds: float
    teacher_seconds: float


Measure = Callable[[nn.Module, Mapping[str, Tensor]], Timing]
"""measure(model, example inputs of forward): exports it to the target's runtime and measures it there, batch and shape
being those of the budget."""
Report = Callable[[int, int], None]


class Entry(BaseModel):
    """A measured plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    plan: list[dict[str, Any]]
    cost: Cost
    timing: Timing
    round: int = 0
    """0 of plans drawn at random, then of the candidates that were chosen by what was known before."""


class LatencyTable(BaseModel):
    """Measurements of plans for one teacher, shape, precision, runtime and device, which `key` names."""

    model_config = ConfigDict(extra="forbid")
    schema_version: int = 1
    key: dict[str, str]
    entries: list[Entry] = []

    @property
    def teacher_seconds(self) -> float:
        """The median over all turns."""
        times = sorted(entry.timing.teacher_seconds for entry in self.entries)
        return times[len(times) // 2]

    def seconds(self, entry: Entry) -> float:
        """A plan's time on a machine that gives the teacher its median time: a slow moment strikes both alike."""
        return self.teacher_seconds * entry.timing.seconds / entry.timing.teacher_seconds

    def entry(self, plan: Plan) -> Entry:
        """The measurement of a plan.

        Raises:
            KeyError: it was not measured.
        """
        wanted = plan.to_dicts()
        for entry in self.entries:
            if entry.plan == wanted:
                return entry
        raise KeyError(str(plan))

    def before(self, number: int) -> "LatencyTable":
        """What was known when a round began."""
        kept = [entry for entry in self.entries if entry.round < number]
        return self.model_copy(update={"entries": kept})

    def fit(self, near: float | None = None) -> LatencyModel:
        """A model of these measurements; best about `near` seconds, if they are given.

        Raises:
            InputError: there are too few measurements.
        """
        times = [self.seconds(entry) for entry in self.entries]
        weights = None if near is None else [min(time / near, near / time) for time in times]
        return fit_latency([entry.cost for entry in self.entries], times, weights)


def measure_plans(
    students: BlankStudents,
    plans: Sequence[Plan],
    measure: Measure,
    *,
    key: Mapping[str, str],
    path: Path | None = None,
    progress: Report | None = None,
    number: int = 0,
) -> LatencyTable:
    """Measure the blank students of these plans; those that the file at `path` already holds are not measured again.

    What comes back is what was known at the end of round `number`: of a search that goes on, the file may hold more.
    The file is written after every measurement, so that a kill loses one at most.

    Raises:
        InputError: the file is of another teacher, shape, precision, runtime or device, or no latency table.
    """
    table = _open(path, key)
    known = {json.dumps(entry.plan): place for place, entry in enumerate(table.entries)}
    for done, plan in enumerate(plans):
        if progress is not None:
            progress(done, len(plans))
        place = known.get(json.dumps(plan.to_dicts()))
        if place is not None:
            entry = table.entries[place]
            table.entries[place] = entry.model_copy(update={"round": min(entry.round, number)})
            continue
        student = students.build(plan)
        timing = measure(student.module, students.inputs)
        table.entries.append(Entry(plan=plan.to_dicts(), cost=student.cost, timing=timing, round=number))
        if path is not None:
            with staged_file(path) as staging:
                staging.write_text(table.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return table.before(number + 1)


def _open(path: Path | None, key: Mapping[str, str]) -> LatencyTable:
    if path is None or not path.exists():
        return LatencyTable(key=dict(key))
    try:
        table = LatencyTable.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is no latency table that can be read: {_first_line(error)}; delete it.") from None
    differing = [name for name in sorted({*key, *table.key}) if key.get(name) != table.key.get(name)]
    if differing:
        raise InputError(
            f"The latency table {path} is about another {', '.join(differing)}: it has "
            f"{ {name: table.key.get(name) for name in differing} }, asked for is "
            f"{ {name: key.get(name) for name in differing} }. Give another file, or delete this one."
        )
    return table


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
