"""compress(recipe, out): the job behind `edgefold compress`: teacher to folded student, resumable at any kill."""

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edgefold.distillation.pairs import check_teacher
from edgefold.errors import InputError
from edgefold.jobs.rehearsal import named_stage, rehearse
from edgefold.jobs.results import CompressionResult, save_result
from edgefold.jobs.stage_inputs import Augment, OpenedStage, open_stage, prepare
from edgefold.jobs.stage_runs import StageEnd, resized, run_stage, to_objective, weights_of
from edgefold.jobs.trackers import check_trackers
from edgefold.jobs.training_runs import Progress, no_progress, use_threads
from edgefold.jobs.unfinished_runs import (
    StageFolder,
    check_work_folder,
    discard_unless_begun,
    refuse_finished,
    start_work_folder,
    work_folder,
)
from edgefold.recipes.recipe import Recipe, load_recipe
from edgefold.recipes.stages import Job
from edgefold.staging import check_output_folder
from edgefold.tasks.table import TASKS


def compress(
    recipe: Recipe | Path | str,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
    augment: Augment | None = None,
) -> CompressionResult:
    """Build, train, fold and save the student of a recipe, stage after stage where it has some.

    Checkpoints and finished stages lie in a hidden sibling of `out` until the student stands whole in `out`; `resume`
    goes on from the last complete one.

    Args:
        recipe: a file's is read.
        augment: augment(examples) -> the examples to train with in the last stage, of the type that the task reads
            (`Example` of a text and its label, ...); validation and test stay as they are. Give the same one to
            `resume`, and let it give the same for the same.

    Raises:
        InputError: bad data or plan, an output that exists, or a resume with another recipe.
        GateError: the folded student does not compute what was trained.
    """
    recipe, out = recipe if isinstance(recipe, Recipe) else load_recipe(recipe), Path(out).absolute()
    if resume:
        refuse_finished(out, work_folder(out))
    check_output_folder(out, overwrite, [path for job in recipe.jobs for path in job.reads])
    recipe.check_paths()
    for job in recipe.jobs:
        _check(job)
    work = check_work_folder(out, recipe, resume, overwrite)
    started = time.perf_counter()
    stages = [_opener(job, augment if job is recipe.jobs[-1] else None) for job in recipe.jobs]
    opened = stages[0]()
    openers = [lambda: opened, *stages[1:]]
    tokens = _tokens(recipe, openers)
    _begin(recipe.jobs[0])
    with named_stage(0, len(openers)):
        inputs = prepare(opened, tokens)
    if len(openers) > 1 and not resume:
        rehearse(opened, inputs, stages[1:], tokens, progress)
    _begin(recipe.jobs[0])
    if not resume:
        start_work_folder(work, recipe)
    ends: list[StageEnd] = []
    try:
        for index, folder in enumerate(_folders(work, recipe)):
            if index:
                opened = stages[index]()
                inputs = prepare(opened, tokens)
            before = ends[-1].lineage if ends else None
            tell, is_last = _telling(progress, folder), index + 1 == len(stages)
            ends.append(run_stage(opened, inputs, before, folder, resume, is_last, tell))
    except InputError:
        discard_unless_begun(work)
        raise

    metrics = _together(recipe, ends)
    if tokens is not None:
        metrics["vocabulary_size"] = float(len(inputs.processor))
    metrics["seconds"] = time.perf_counter() - started
    plain = ends[-1].plain
    result = CompressionResult(
        out,
        metrics,
        [point for end in ends for point in end.curve],
        resized(ends[-1].lineage, inputs.graph),
        weights_of(plain, opened.job),
    )
    save_result(result, recipe, plain, inputs, work / "runs", overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return result


def _check(job: Job) -> None:
    check_trackers(job.training.report_to)
    if job.teacher_cache.folder is not None and not TASKS[job.task].is_cacheable:
        raise InputError(
            f"teacher_cache.folder cannot be used for {job.task}, whose examples change from epoch to epoch; leave "
            "it out, so that the teacher runs in each step."
        )


def _opener(job: Job, augment: Augment | None) -> Callable[[], OpenedStage]:
    """Opens a stage under its own threads and seed, the same in a run that goes on as in one that begins."""

    def open_it() -> OpenedStage:
        _begin(job)
        opened = open_stage(job, augment)
        check_teacher(to_objective(job), opened.teacher)
        return opened

    return open_it


def _begin(job: Job) -> None:
    use_threads(job.training.threads)
    torch.manual_seed(job.training.seed)


def _tokens(recipe: Recipe, openers: Sequence[Callable[[], OpenedStage]]) -> list[int] | None:
    """The tokens in use, where the recipe trims the vocabulary."""
    if recipe.vocabulary is None:
        return None
    least = recipe.vocabulary.min_count
    return sorted(set[int]().union(*(opener().used_tokens(least) for opener in openers)))


def _folders(work: Path, recipe: Recipe) -> list[StageFolder]:
    return [StageFolder(work, stage.name) for stage in recipe.stages] or [StageFolder(work)]


def _telling(progress: Progress, folder: StageFolder) -> Progress:
    """Progress that names the stage."""
    if not folder.stage:
        return progress
    return lambda what, done, total, figures: progress(f"{folder.stage} {what}", done, total, figures)


def _together(recipe: Recipe, ends: Sequence[StageEnd]) -> dict[str, float]:
    """The figures of the last stage, and those of the ones before it behind their names: pre-training/test_accuracy."""
    earlier = zip(recipe.stages, ends[:-1], strict=False)
    figures = {f"{stage.name}/{name}": value for stage, end in earlier for name, value in end.metrics.items()}
    return figures | ends[-1].metrics
