"""The search behind `edgefold search`, with ONNX Runtime on a CPU, this machine's or another's, as the target."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.budget.goals import Budget
from edgefold.budget.latency_tables import Timing
from edgefold.budget.search import Effort, Goal, Target, search
from edgefold.budget.trials import SearchResult
from edgefold.cli.answers import Answer
from edgefold.cli.progress import shown_progress
from edgefold.cli.tables import make_table
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.fingerprints import fingerprint_model
from edgefold.recipes import Recipe
from edgefold.runtimes import benchmark_artifacts, example_inputs, read_device_state, read_remote_state
from edgefold.tasks.table import TASKS

Precision = Literal["fp32", "int8"]


class OnnxRuntimeTarget:
    """Exports models and measures each in turns with the teacher; on one thread in processor time, so that others' load
    counts less.

    int8 is dynamic: what costs no calibration tells plans apart as well.
    """

    def __init__(
        self,
        teacher: nn.Module,
        folder: Path,
        precision: Precision,
        *,
        batch: int,
        sequence: int,
        threads: int,
        device: str = "cpu",
    ) -> None:
        self._module, self._folder, self._precision = teacher, folder, precision
        self._batch, self._sequence, self._threads, self._device = batch, sequence, threads, device
        self._teacher: Artifact | None = None
        self._count = 0

    def __call__(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Timing:
        teacher = self._teacher = self._teacher or self._export(self._module, inputs)
        feeds = example_inputs(
            teacher.inputs, batch=self._batch, sequence=self._sequence, vocab_size=teacher.vocab_size
        )
        artifacts = {"teacher": teacher, "student": self._export(module, inputs)}
        reports = benchmark_artifacts(
            artifacts, feeds, device=self._device, threads=self._threads, min_duration_s=0.7, energy_s=0.0
        )
        times = {name: report.cpu_p50_s if self._threads == 1 else report.p50_s for name, report in reports.items()}
        return Timing(seconds=times["student"], teacher_seconds=times["teacher"])

    def _export(self, module: nn.Module, inputs: Mapping[str, Tensor]) -> Artifact:
        self._count += 1
        stem = self._folder / f"{self._count}"
        fp32 = export_onnx(module.eval(), inputs, f"{stem}-fp32")
        return fp32 if self._precision == "fp32" else quantize_onnx(fp32, f"{stem}-int8", quantization="dynamic")


def run_search(
    recipe: Recipe,
    budget: Budget,
    out: Path,
    *,
    keep: float,
    precision: Precision,
    batch: int,
    sequence: int,
    threads: int,
    measured: int,
    trials: int,
    full_trials: int,
    device: str,
) -> Answer:
    """Search for a student, and say what was found; status 3 where no student meets both goals.

    Raises:
        InputError: bad data, or `out` holds something else.
        GateError: no plan is within the budget.
        DeviceError: the device cannot be reached.
    """
    goal = Goal(budget, keep, precision, batch, sequence)
    teacher = TASKS[recipe.task].open_teacher(recipe.teacher)
    state = read_remote_state(device) if device.startswith("ssh://") else read_device_state()
    key = {
        "teacher": fingerprint_model(teacher),
        "precision": precision,
        "shape": f"{batch} x {sequence}",
        "threads": str(threads),
        "runtime": f"onnxruntime {state.versions.get('onnxruntime', '')}",
        "device": f"{device} {state.processor}, {' '.join(state.instruction_sets)}",
    }
    with tempfile.TemporaryDirectory(prefix="edgefold-search-") as folder, shown_progress() as progress:
        measure = OnnxRuntimeTarget(
            teacher, Path(folder), precision, batch=batch, sequence=sequence, threads=threads, device=device
        )
        effort = Effort(measured_plans=measured, short_trials=trials, full_trials=full_trials)
        result = search(recipe, goal, Target(measure, key), out, effort=effort, progress=progress)
    return Answer(json.loads(result.model_dump_json()), _texts(result, out), 0 if result.met else 3)


def _texts(result: SearchResult, out: Path) -> tuple[object, ...]:
    columns = ("trial", "epochs", "plan", "damage", "predicted ms", "measured ms", "of teacher")
    rows = []
    for trial in result.trials:
        timing = trial.timing
        measured = (
            "-" if timing is None else f"{result.teacher_seconds * timing.seconds / timing.teacher_seconds * 1e3:.2f}"
        )
        share = "-" if trial.share is None else f"{trial.share:.1%}"
        figures = (f"{trial.damage:.3f}", f"{trial.predicted_seconds * 1e3:.2f}", measured, share)
        rows.append((trial.name, trial.epochs, _plan(trial.plan), *figures))
    shape = f"batch {result.batch}, {result.sequence} tokens, {result.precision}"
    correlation = "unknown" if result.rank_correlation is None else f"{result.rank_correlation:.2f}"
    facts = (
        f"The latency model is off by {result.latency_error:.1%} (median) on plans it was not fitted to; the rank "
        f"correlation of estimated damage with the quality of short trainings is {correlation}."
    )
    verdict = (
        f"{result.winner} meets {result.budget} and keeps {result.best.rank:.1%}. "
        if result.met
        else f"Missed: {result.advice} "
    )
    return (
        make_table(f"{result.budget}, {shape}; teacher {result.teacher_seconds * 1e3:.2f} ms", columns, rows),
        facts,
        f"{verdict}The student is in {out / 'trials' / result.winner}, the recipe in {out / 'recipe.yaml'}.",
    )


def _plan(steps: list[dict[str, dict[str, object]]]) -> str:
    return ", ".join(
        " ".join(str(value) for value in arguments.values()) for step in steps for arguments in step.values()
    )
