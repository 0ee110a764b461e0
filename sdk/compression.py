"""compress(recipe, out): the job behind `edgefold compress`: teacher to folded student, resumable at any kill."""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from edgefold.compression_results import CompressionResult, save_result
from edgefold.dimensions import Dimension, trace
from edgefold.distillation import Contrast, Objective, logits_of
from edgefold.errors import GateError, InputError
from edgefold.folding import fold
from edgefold.recipes import Recipe
from edgefold.sparsity import sparsity_figures, weight_table
from edgefold.staging import check_output_folder
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.table import TASKS
from edgefold.tasks.task import Splits, Task
from edgefold.training import CompressionTrainer
from edgefold.training_runs import (
    Progress,
    curve,
    evaluate_every_epoch,
    no_progress,
    training_arguments,
    use_threads,
    watch,
)
from edgefold.unfinished_runs import check_work_folder, last_checkpoint, start_work_folder
from edgefold.vocabularies import trim_vocabulary, used_tokens

FOLD_TOLERANCE = 1e-5
CALIBRATION_BATCH = 16


def compress(
    recipe: Recipe, out: str | Path, *, resume: bool = False, overwrite: bool = False, progress: Progress = no_progress
) -> CompressionResult:
    """Build, train, fold and save the student of a recipe.

    Checkpoints lie in a hidden sibling of `out` until the student stands whole in `out`; `resume` goes on from the last
    complete one.

    Raises:
        InputError: bad data or plan, an output that exists, or a resume with another recipe.
        GateError: the folded student does not compute what was trained.
    """
    out = Path(out).absolute()
    check_output_folder(out, overwrite)
    recipe.check_paths()
    if recipe.teacher_cache.folder is not None and not TASKS[recipe.task].is_cacheable:
        raise InputError(
            f"teacher_cache.folder cannot be used for {recipe.task}, whose examples change from epoch to epoch; leave "
            "it out, so that the teacher runs in each step."
        )
    work = check_work_folder(out, recipe, resume, overwrite)
    use_threads(recipe.training.threads)
    torch.manual_seed(recipe.training.seed)
    started = time.perf_counter()

    task = TASKS[recipe.task]
    processor, teacher = task.open_processor(recipe.teacher), task.open_teacher(recipe.teacher)
    splits = task.read(recipe.data, teacher)
    whole = (teacher, processor)
    teacher, processor = _with_vocabulary(task, recipe, teacher, processor, splits)
    train, validation, test = (
        task.encode(examples, processor, recipe.data) for examples in (splits.train, splits.validation, splits.test)
    )
    collate = task.collator(processor, recipe.data, teacher)
    if not resume:
        start_work_folder(work, recipe)
    progress("calibrate", 0, 1, {})
    begun = time.perf_counter()
    batches = bare_batches(train, collate, CALIBRATION_BATCH, recipe.calibration.samples, task.label_names)
    inputs = batches[(len(batches) - 1) // 2]
    student = build_student(
        teacher,
        recipe.to_plan(),
        inputs,
        batches,
        recipe.training.mode,
        start=recipe.calibration.start,
        importance=recipe.calibration.importance,
        progress=lambda _, done, total, figures: progress("calibrate", done, total + 1, figures),
    )
    metrics = {"calibration_seconds": time.perf_counter() - begun}
    if recipe.vocabulary is not None:
        metrics["vocabulary_size"] = float(len(processor))
    metrics |= _named("untrained", task.evaluate(student, validation, collate))
    progress("calibrate", 1, 1, metrics)

    by_length = getattr(train, "lengths", None) is not None
    trainer = CompressionTrainer(
        student.train(),
        teacher=teacher,
        objective=to_objective(recipe),
        args=training_arguments(recipe.training, work / "checkpoints", True, task.label_names, by_length),
        train_dataset=train,
        data_collator=collate,
        teacher_cache_gib=recipe.teacher_cache.memory_gib if task.is_cacheable else 0.0,
        teacher_cache_folder=recipe.teacher_cache.folder,
    )
    watch(trainer, "train", progress)
    evaluate_every_epoch(trainer, lambda: task.evaluate(student, validation, collate))
    begun = time.perf_counter()
    trainer.train(resume_from_checkpoint=last_checkpoint(work / "checkpoints") if resume else None)
    metrics["training_seconds"] = time.perf_counter() - begun
    student.eval().cpu()

    plain = fold(student)
    if recipe.penalties:
        metrics |= sparsity_figures(fold(student, remove_dead=False), plain)
    few = bare_batches(validation, collate, CALIBRATION_BATCH, 64, task.label_names)
    metrics["fold_error"] = _fold_error(student, plain, few)
    metrics |= _named("validation", task.evaluate(plain, validation, collate))
    metrics |= _named("test", task.evaluate(plain, test, collate))
    metrics |= _named("teacher_test", _measure_whole(task, *whole, splits, recipe))
    metrics |= _compared(task, metrics)
    metrics["seconds"] = time.perf_counter() - started
    dimensions = _resized(student, list(trace(teacher.cpu(), inputs).dimensions))
    weights = weight_table(plain, _lowers_ranks(recipe)) if recipe.penalties else []
    result = CompressionResult(out, metrics, curve(trainer), dimensions, weights)
    save_result(result, recipe, plain, processor, inputs, overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return result


def to_objective(recipe: Recipe) -> Objective:
    """The objective that a recipe's sections describe."""
    settings = recipe.objective
    contrast = Contrast(**settings.contrast.model_dump())
    return Objective(**{**settings.model_dump(), "contrast": contrast}, penalties=recipe.to_penalties())


def _with_vocabulary(
    task: Task, recipe: Recipe, teacher: torch.nn.Module, processor: Any, splits: Splits
) -> tuple[torch.nn.Module, Any]:
    """The pair as it is, or with the tokens of the training texts alone."""
    if recipe.vocabulary is None:
        return teacher, processor
    if task.texts is None:
        raise InputError(f"vocabulary: the task {recipe.task} has no texts to trim a vocabulary to; leave it out.")
    tokens = used_tokens(processor, task.texts(splits.train), recipe.vocabulary.min_count)
    return trim_vocabulary(teacher, processor, tokens)


def _measure_whole(
    task: Task, teacher: torch.nn.Module, processor: Any, splits: Splits, recipe: Recipe
) -> dict[str, float]:
    """The teacher's metrics on the test data, with its own, whole vocabulary."""
    test = task.encode(splits.test, processor, recipe.data)
    return task.evaluate(teacher.eval(), test, task.collator(processor, recipe.data, teacher))


def _compared(task: Task, metrics: Mapping[str, float]) -> dict[str, float]:
    """How much of the teacher's quality on the test data is left, by the metric that counts."""
    metric = task.metrics[0]
    share = metric.share_of_teacher(metrics[f"test_{metric.name}"], metrics[f"teacher_test_{metric.name}"])
    return {} if share is None else {"share_of_teacher": share}


def _named(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {f"{prefix}_{name}": value for name, value in metrics.items()}


def _fold_error(student: Student, plain: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> float:
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


def _resized(student: Student, dimensions: list[Dimension]) -> list[dict[str, Any]]:
    sizes = student.structure.sizes
    return [
        {"name": d.name, "kind": d.kind, "teacher_size": d.size, "student_size": sizes[d.name][1]}
        for d in dimensions
        if d.name in sizes
    ]


def _lowers_ranks(recipe: Recipe) -> bool:
    return any(entry.nuclear_norm is not None for entry in recipe.penalties)
