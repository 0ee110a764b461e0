"""rehearse(stages): every stage's student built in a hurry, so that what a later one would refuse is told at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from edgefold.distillation.pairs import find_pairs
from edgefold.errors import InputError
from edgefold.jobs.carrying import Lineage
from edgefold.jobs.stage_inputs import OpenedStage, StageInputs, prepare
from edgefold.jobs.stage_runs import start_stage, to_objective
from edgefold.jobs.training_runs import Progress, no_progress
from edgefold.penalty_terms import PenaltyTerms
from edgefold.recipes.stages import Job

QUICK = {"start": "pca", "importance": "energy"}


def rehearse(
    opened: OpenedStage,
    inputs: StageInputs,
    later: Sequence[Callable[[], OpenedStage]],
    tokens: Iterable[int] | None,
    progress: Progress,
) -> None:
    """Go through all stages as the job will, without training and with one batch of calibration each.

    Args:
        opened: the first stage, with its inputs.
        later: what opens each of the others.
        tokens: as for `prepare`.

    Raises:
        InputError: a stage's plan, teacher, data, objective or penalties do not fit the student that comes to it.
    """
    before: Lineage | None = None
    total = 1 + len(later)
    for index in range(total):
        progress("check", index, total, {})
        if index:
            opened = later[index - 1]()
        with named_stage(index, total):
            inputs = prepare(opened, tokens) if index else inputs
            before = _rehearse(opened.job, inputs, before)
    progress("check", total, total, {})


@contextmanager
def named_stage(index: int, total: int) -> Iterator[None]:
    """What is refused within says of which stage, where there are several."""
    try:
        yield
    except InputError as error:
        if total == 1:
            raise
        raise InputError(f"Stage {index + 1} of {total}: {error}") from error


def _rehearse(job: Job, inputs: StageInputs, before: Lineage | None) -> Lineage:
    lineage, _ = start_stage(_quick(job), inputs, before, no_progress, inputs.batches[:1])
    objective = to_objective(job)
    find_pairs(lineage.student, inputs.teacher, objective, lambda: inputs.example)
    PenaltyTerms(objective.all_penalties, lineage.student)
    return lineage


def _quick(job: Job) -> Job:
    return job.model_copy(update={"calibration": job.calibration.model_copy(update=QUICK)})
