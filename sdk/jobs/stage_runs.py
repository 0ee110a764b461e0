"""One stage of a compression: its student is built or carried over, trained, folded and measured."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph
from edgefold.distillation import Contrast, Objective, logits_of
from edgefold.errors import GateError
from edgefold.folding import fold
from edgefold.jobs.carrying import Lineage, carry_over, plain_of, shrink
from edgefold.jobs.stage_inputs import CALIBRATION_BATCH, OpenedStage, StageInputs
from edgefold.jobs.trackers import keep_logs
from edgefold.jobs.training_runs import CurvePoint, Progress, curve, evaluate_every_epoch, training_arguments, watch
from edgefold.jobs.unfinished_runs import FinishedStage, StageFolder
from edgefold.recipes.stages import Job
from edgefold.sparsity import sparsity_figures, weight_table
from edgefold.starts.known_maps import counterparts
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.task import Task
from edgefold.training import CompressionTrainer

FOLD_TOLERANCE = 1e-5


@dataclass(frozen=True)
class StageEnd:
    """A trained student, the same as plain modules, and how it went."""

    lineage: Lineage
    plain: nn.Module
    metrics: dict[str, float]
    curve: list[CurvePoint]


def run_stage(
    opened: OpenedStage,
    inputs: StageInputs,
    before: Lineage | None,
    folder: StageFolder,
    resume: bool,
    is_last: bool,
    progress: Progress,
) -> StageEnd:
    """Build or carry over the student and train it; a stage that was over before a kill is restored.

    Raises:
        GateError: the folded student does not compute what was trained.
    """
    begun = time.perf_counter()
    progress("calibrate", 0, 1, {})
    lineage, metrics = start_stage(opened.job, inputs, before, progress, inputs.batches)
    metrics["calibration_seconds"] = time.perf_counter() - begun
    finished = folder.finished() if resume else None
    if finished is not None:
        folder.restore(lineage.student)
        return StageEnd(lineage, fold(lineage.student), finished.metrics, finished.curve)
    end = _train(opened, inputs, lineage, metrics, folder, resume, progress)
    if not is_last:
        folder.finish(lineage.student, FinishedStage(end.metrics, end.curve))
    return end


def start_stage(
    job: Job, inputs: StageInputs, before: Lineage | None, progress: Progress, batches: Sequence[Batch]
) -> tuple[Lineage, dict[str, float]]:
    """The first student from its teacher; a later one from the one before, shrunk where the stage has a plan.

    Args:
        batches: for calibration.
    """
    mode, metrics, source = job.training.mode, {}, inputs.teacher
    graph: DimensionGraph | None = inputs.graph
    if before is not None:
        kept = before.student.mode if job.plan else mode
        carried = carry_over(before, inputs.teacher, inputs.example, batches, kept, graph)
        before, metrics["carried_share"] = carried.lineage, carried.share
        if not job.plan:
            return before, metrics
        source, graph = plain_of(before.student), None
    student = build_student(
        source,
        job.to_plan(),
        inputs.example,
        batches,
        mode,
        start=job.calibration.start,
        importance=job.calibration.importance,
        progress=lambda _, done, total, figures: progress("calibrate", done, total + 1, figures),
        graph=graph,
        gates=job.to_gates(),
    )
    return (Lineage(student) if before is None else shrink(before, student)), metrics


def _train(
    opened: OpenedStage,
    inputs: StageInputs,
    lineage: Lineage,
    metrics: dict[str, float],
    folder: StageFolder,
    resume: bool,
    progress: Progress,
) -> StageEnd:
    """Train the student (in place), fold it, and measure it and its teacher."""
    job, task, student = opened.job, opened.task, lineage.student
    metrics = metrics | named("untrained", task.evaluate(student, inputs.validation, inputs.collate))
    progress("calibrate", 1, 1, metrics)
    trainer = _trainer(opened, inputs, student, folder)
    watch(trainer, "train", progress)
    evaluate_every_epoch(trainer, lambda: task.evaluate(student, inputs.validation, inputs.collate))
    begun = time.perf_counter()
    trainer.train(resume_from_checkpoint=folder.last_checkpoint() if resume else None)
    metrics["training_seconds"] = time.perf_counter() - begun
    student.eval().cpu()

    plain = fold(student)
    if job.penalties or job.gates:
        metrics |= sparsity_figures(fold(student, remove_dead=False), plain)
    if student.gates is not None:
        metrics["gates_share"] = student.gates.kept_share()
    few = bare_batches(inputs.validation, inputs.collate, CALIBRATION_BATCH, 64, task.label_names)
    metrics["fold_error"] = _fold_error(student, plain, few)
    metrics |= named("validation", task.evaluate(plain, inputs.validation, inputs.collate))
    metrics |= named("test", task.evaluate(plain, inputs.test, inputs.collate))
    metrics |= named("teacher_test", opened.measure_teacher())
    return StageEnd(lineage, plain, metrics | _compared(task, metrics), curve(trainer, folder.stage))


def _trainer(opened: OpenedStage, inputs: StageInputs, student: Student, folder: StageFolder) -> CompressionTrainer:
    job, task = opened.job, opened.task
    by_length = getattr(inputs.train, "lengths", None) is not None
    arguments = training_arguments(
        job.training, folder.checkpoints, True, task.label_names, by_length, folder.stage or None
    )
    rows, size = len(inputs.train), job.training.batch_size
    arguments.dataloader_drop_last = rows > size and rows % size == 1  # a row alone has no statistics of a batch
    cache = job.teacher_cache.folder
    trainer = CompressionTrainer(
        student.train(),
        teacher=inputs.teacher,
        objective=to_objective(job),
        args=arguments,
        train_dataset=inputs.train,
        data_collator=inputs.collate,
        teacher_cache_gib=job.teacher_cache.memory_gib if task.is_cacheable else 0.0,
        teacher_cache_folder=cache / folder.stage if cache and folder.stage else cache,
    )
    keep_logs(trainer, folder.logs)
    return trainer


def to_objective(job: Job) -> Objective:
    """The objective that a recipe's sections describe."""
    settings = job.objective
    contrast = Contrast(**settings.contrast.model_dump())
    return Objective(**{**settings.model_dump(), "contrast": contrast}, penalties=job.to_penalties())


def named(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    """{"accuracy": 0.8} -> {"test_accuracy": 0.8}"""
    return {f"{prefix}_{name}": value for name, value in metrics.items()}


def resized(lineage: Lineage, teacher: DimensionGraph) -> list[dict[str, Any]]:
    """Name, kind, old and new size of every dimension of the teacher that this student, or one before it, resized."""
    sizes = _sizes(lineage)
    return [
        {"name": d.name, "kind": d.kind, "teacher_size": d.size, "student_size": sizes[d.name]}
        for d in teacher.dimensions
        if d.name in sizes
    ]


def weights_of(plain: nn.Module, job: Job) -> list[dict[str, Any]]:
    """The table of weights, where there were penalties or gates."""
    lowers_ranks = any(entry.nuclear_norm is not None for entry in job.penalties)
    return weight_table(plain, lowers_ranks) if job.penalties or job.gates else []


def _sizes(lineage: Lineage) -> dict[str, int]:
    """New sizes by the names of the first teacher's dimensions."""
    student = lineage.student
    own = {name: new for name, (_, new) in student.structure.sizes.items()}
    own |= student.gates.open_counts() if student.gates is not None else {}
    if lineage.earlier is None:
        return own
    names = counterparts(student.layouts, lineage.earlier.student.layouts)
    return _sizes(lineage.earlier) | {names.get(name, name): size for name, size in own.items()}


def _compared(task: Task, metrics: Mapping[str, float]) -> dict[str, float]:
    """How much of the teacher's quality on the test data is left, by the metric that counts."""
    metric = task.metrics[0]
    share = metric.share_of_teacher(metrics[f"test_{metric.name}"], metrics[f"teacher_test_{metric.name}"])
    return {} if share is None else {"share_of_teacher": share}


def _fold_error(student: Student, plain: nn.Module, batches: list[dict[str, Tensor]]) -> float:
    """The largest difference of the logits, relative to the largest logit; a gate: folding changes nothing."""
    worst = 0.0
    with torch.no_grad():
        for batch in batches:
            before, after = logits_of(student(**batch)), logits_of(plain(**batch))
            worst = max(worst, float((before - after).abs().max() / before.abs().max()))
    if not worst <= FOLD_TOLERANCE:
        raise GateError(
            f"Folding changed the student by {worst:.2e} (relative), more than {FOLD_TOLERANCE:.0e}; it was not saved."
        )
    return worst
