"""rehearse(stages): every stage's student built in a hurry, so that what a later one would refuse is told at once."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from edgefold.distillation.pairs import find_pairs
from edgefold.errors import InputError
from edgefold.jobs.carrying import Lineage
from edgefold.jobs.stage_inputs import OpenedStage, prepare
from edgefold.jobs.stage_runs import start_stage, to_objective
from edgefold.jobs.training_runs import Progress, no_progress
from edgefold.penalty_terms import PenaltyTerms
from edgefold.recipes.stages import Job

QUICK = {"start": "pca", "importance": "energy"}


def rehearse(openers: Sequence[Callable[[], OpenedStage]], tokens: Iterable[int] | None, progress: Progress) -> None:
    """Go through all stages as the job will, without training and with one batch of calibration each.

    Args:
        openers: one for each stage.
        tokens: as for `prepare`.

    Raises:
        InputError: a stage's plan, teacher, data, objective or penalties do not fit the student that comes to it.
    """
    before: Lineage | None = None
    for index, opener in enumerate(openers):
        progress("check", index, len(openers), {})
        opened = opener()
        try:
            before = _rehearse(opened, tokens, before)
        except InputError as error:
            raise InputError(f"Stage {index + 1} of {len(openers)}: {error}") from error
    progress("check", len(openers), len(openers), {})


def _rehearse(opened: OpenedStage, tokens: Iterable[int] | None, before: Lineage | None) -> Lineage:
    job, inputs = opened.job, prepare(opened, tokens)
    few = replace(inputs, batches=inputs.batches[:1])
    lineage, _ = start_stage(_quick(job), few, before, no_progress)
    objective = to_objective(job)
    find_pairs(lineage.student, few.teacher, objective, lambda: few.example)
    PenaltyTerms(objective.all_penalties, lineage.student)
    return lineage


def _quick(job: Job) -> Job:
    return job.model_copy(update={"calibration": job.calibration.model_copy(update=QUICK)})
