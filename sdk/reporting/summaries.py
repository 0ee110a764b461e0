"""The demo's summary: every model on the same axes, and who is dominated by whom."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from edgefold.device_states import DeviceState
from edgefold.errors import InputError
from edgefold.ratios import Ratio
from edgefold.staging import staged_file

Role = Literal["teacher", "student", "rival"]
SAME_SIZE = 0.01
"""Relative difference of file sizes below which two models count as equally large."""


def _number_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


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
    wall_ratio: Ratio | None = None
    """The same of the wall time, where `ratio` is of the CPU time."""
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
    values: tuple[Annotated[float | None, BeforeValidator(_number_or_none)], ...]
    """None where a loss was no number."""


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


def load_summary(path: str | Path) -> DemoSummary:
    """Read a summary.json.

    Raises:
        InputError: no such file, or not a summary.
    """
    try:
        return DemoSummary.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"There is no summary {path}; give a summary.json that `edgefold demo` wrote.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"{path} is not a summary of edgefold's demo: {where}: {first['msg']}.") from None


def find_dominated(results: Sequence[ModelResult]) -> dict[str, str]:
    """For each model that another beats in accuracy, speed or size and equals in the rest: that other's name.

    Accuracies are compared as measured; the standard error beside them says which differences are noise. Speeds are
    equal where the intervals of the ratios overlap, sizes within 1 %: models of one shape are equally fast and large.
    """
    dominated = {}
    for result in results:
        better = [other for other in results if other is not result and _dominates(other, result)]
        if better:
            dominated[result.name] = max(better, key=lambda other: (other.accuracy, other.ratio.value)).name
    return dominated


def _dominates(a: ModelResult, b: ModelResult) -> bool:
    is_no_worse = (
        a.accuracy >= b.accuracy and a.ratio.high >= b.ratio.low and a.size_bytes <= b.size_bytes * (1 + SAME_SIZE)
    )
    is_better = a.accuracy > b.accuracy or a.ratio.low > b.ratio.high or a.size_bytes * (1 + SAME_SIZE) < b.size_bytes
    return is_no_worse and is_better
