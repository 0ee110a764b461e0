"""The demo's summary: every model on the same axes, and who is dominated by whom."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from edgefold.reports import DeviceState, Ratio
from edgefold.staging import staged_file

Role = Literal["teacher", "student", "rival"]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelResult(Frozen):
    """One model as it was measured."""

    name: str
    role: Role
    precision: str
    parameters: int
    encoder_parameters: int
    """Of the layers alone, without look-up tables and heads."""
    size_bytes: int
    """Of the ONNX file."""
    accuracy: float
    """On the test data, in ONNX Runtime."""
    p50_s: float
    cpu_p50_s: float
    ratio: Ratio
    """Teacher fp32 time / this model's time, paired."""
    training_seconds: float | None = None
    chosen: bool = True
    """False for an int8 variant that the validation data did not favour."""

    def standard_error(self, rows: int) -> float:
        """Of the accuracy, binomial."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / rows)


class CurveData(Frozen):
    """One line of the training plot."""

    name: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


class LayerShape(Frozen):
    """One parameter of the student beside the teacher's."""

    parameter: str
    teacher: tuple[int, ...]
    student: tuple[int, ...]


class GateResult(Frozen):
    """What a step cost against what it was allowed to."""

    name: str
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit


class DemoSummary(Frozen):
    """All that the demo found out; also the source of report.html."""

    schema_version: Literal[1] = 1
    teacher_accuracy: float
    student_accuracy: float
    int8_accuracy: float
    share_of_teacher: float
    """student_accuracy / teacher_accuracy."""
    speedup_fp32: float
    speedup_int8: float
    teacher_int8_speedup: float
    teacher_parameters: int
    student_parameters: int
    teacher_encoder_parameters: int
    student_encoder_parameters: int
    seed: int
    width: str
    quick: bool
    test_rows: int
    threads_measured: int
    shape: str
    """Of the benchmark's input."""
    seconds: dict[str, float]
    results: tuple[ModelResult, ...]
    dominated: dict[str, str]
    """Name of a dominated model -> name of one that dominates it."""
    curves: tuple[CurveData, ...]
    dimensions: tuple[dict[str, Any], ...]
    layers: tuple[LayerShape, ...]
    gates: tuple[GateResult, ...]
    device_before: DeviceState
    device_after: DeviceState
    commands: tuple[str, ...]

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        with staged_file(path) as staging:
            staging.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def find_dominated(results: Sequence[ModelResult]) -> dict[str, str]:
    """For each model that another beats in accuracy, speed or size and equals in the rest: that other's name.

    Figures are compared as measured; the standard error beside them says which differences of accuracy are noise.
    """
    dominated = {}
    for result in results:
        better = [other for other in results if other is not result and _dominates(other, result)]
        if better:
            dominated[result.name] = max(better, key=lambda other: (other.accuracy, other.ratio.value)).name
    return dominated


def _dominates(a: ModelResult, b: ModelResult) -> bool:
    pairs = ((a.accuracy, b.accuracy), (a.ratio.value, b.ratio.value), (-a.size_bytes, -b.size_bytes))
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)
