"""What the demo says in the end: its summary, and the table on the terminal."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefold.cli.demo_measurement import BASELINE, BATCH, SEQUENCE, Contestant, as_result
from edgefold.cli.tables import make_table
from edgefold.jobs.fine_tuning import FineTuned
from edgefold.jobs.results import CompressionResult
from edgefold.jobs.stage_runs import FOLD_TOLERANCE
from edgefold.jobs.training_runs import CurvePoint
from edgefold.reporting.summaries import CurveData, DemoSummary, GateResult, LayerShape, find_dominated
from edgefold.reports import Report
from edgefold.runtimes import read_device_state

PARITY_TOLERANCE = 1e-4
INT8_COST_LIMIT = 0.015
"""Accuracy that int8 may cost on the validation data."""
QUICK_COST_LIMIT = 0.04
"""Of a quick run, whose 200 texts are half a point each: eight of them."""


@dataclass(frozen=True)
class DemoRun:
    """What was asked for, on which device, and when it began."""

    width: str
    seed: int
    quick: bool
    test_rows: int
    device: Any
    begun: float


def started_and_trained(student: CompressionResult) -> float:
    """What the student took to start and to train."""
    return student.metrics["calibration_seconds"] + student.metrics["training_seconds"]


def summarize(
    run: DemoRun,
    contestants: Sequence[Contestant],
    reports: Mapping[str, Report],
    teacher: FineTuned,
    student: CompressionResult,
    layers: tuple[LayerShape, ...],
) -> DemoSummary:
    """All that the demo says, from what was measured."""
    results = {c.name: as_result(c, reports) for c in contestants}
    chosen = [result for result in results.values() if result.chosen]
    by_role = {(r.role, r.precision): r for r in chosen}
    base, fp32, int8 = by_role["teacher", "fp32"], by_role["student", "fp32"], by_role["student", "int8"]
    validation = {c.name: c.validation_accuracy for c in contestants}
    parity = max(c.artifact.lineage["parity"]["fp32"] for c in contestants if c.role == "student")
    return DemoSummary(
        teacher_accuracy=base.accuracy,
        student_accuracy=fp32.accuracy,
        int8_accuracy=int8.accuracy,
        share_of_teacher=fp32.accuracy / base.accuracy,
        speedup_fp32=fp32.ratio.value,
        speedup_int8=int8.ratio.value,
        teacher_int8_speedup=by_role["teacher", "int8"].ratio.value,
        teacher_parameters=base.parameters,
        student_parameters=fp32.parameters,
        teacher_encoder_parameters=base.encoder_parameters,
        student_encoder_parameters=fp32.encoder_parameters,
        seed=run.seed,
        width=run.width,
        quick=run.quick,
        test_rows=run.test_rows,
        threads_measured=1,
        shape=f"batch {BATCH}, {SEQUENCE} tokens",
        seconds={
            "teacher": teacher.seconds,
            "student": started_and_trained(student),
            "everything": time.perf_counter() - run.begun,
        },
        results=tuple(results.values()),
        dominated=find_dominated(chosen),
        curves=(*_curves("teacher", teacher.curve), *_curves("student", student.curve)),
        dimensions=tuple(student.dimensions),
        layers=layers,
        gates=(
            GateResult(
                name="fold: relative change of the logits", value=student.metrics["fold_error"], limit=FOLD_TOLERANCE
            ),
            GateResult(name="export: largest difference from torch", value=parity, limit=PARITY_TOLERANCE),
            GateResult(
                name="int8: validation accuracy lost",
                value=validation[fp32.name] - validation[int8.name],
                limit=QUICK_COST_LIMIT if run.quick else INT8_COST_LIMIT,
            ),
        ),
        device_before=run.device,
        device_after=read_device_state(),
        commands=(
            f"edgefold demo --width {run.width} --seed {run.seed}{' --quick' if run.quick else ''}",
            "edgefold compress student/recipe.yaml --out again",
            "edgefold bench onnx/student-int8-dynamic --against onnx/teacher-fp32",
        ),
    )


def _curves(name: str, points: Sequence[CurvePoint]) -> list[CurveData]:
    """One line for each figure that was logged more than once."""
    figures = dict.fromkeys(
        figure for point in points for figure in point.figures if figure in _PLOTTED or "loss_" in figure
    )
    lines = []
    for figure in figures:
        logged = [(point.epoch, point.figures[figure]) for point in points if figure in point.figures]
        lines.append(
            CurveData(name=f"{name} {figure}", epochs=tuple(e for e, _ in logged), values=tuple(v for _, v in logged))
        )
    return lines


_PLOTTED = ("loss", "eval_accuracy")


def passed(summary: DemoSummary) -> bool:
    return all(gate.passed for gate in summary.gates)


def texts(summary: DemoSummary, out: Path) -> tuple[Any, ...]:
    columns = ("model", "encoder params", "MB", "accuracy", "of teacher", "p50 ms", "faster by", "dominated by")
    rows = [
        (
            result.name,
            f"{result.encoder_parameters / 1e6:.2f} M",
            f"{result.size_bytes / 1e6:.1f}",
            f"{result.accuracy:.2%} ± {result.standard_error(summary.test_rows):.2%}",
            f"{result.accuracy / summary.teacher_accuracy:.1%}",
            f"{result.p50_s * 1e3:.2f}",
            "1" if result.name == BASELINE else f"{result.ratio.value:.2f}x",
            summary.dominated.get(result.name, "-" if result.chosen else "not chosen"),
        )
        for result in summary.results
    ]
    title = f"{summary.shape}, one thread, ONNX Runtime, seed {summary.seed}, {summary.test_rows} test rows"
    missed = [f"{gate.name}: {gate.value:.2e} is above {gate.limit:.2e}" for gate in summary.gates if not gate.passed]
    return (
        make_table(title, columns, rows),
        *(["Missed: " + "; ".join(missed)] if missed else []),
        f"{summary.seconds['everything'] / 60:.1f} minutes. The report is {out / 'report.html'}, the figures are in "
        f"{out / 'summary.json'}.",
    )
