"""What a stage begins with: its teacher, its checked examples, and rows and batches made of them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.recipes.stages import Job
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.table import TASKS
from edgefold.tasks.task import Collate, Splits, Task
from edgefold.tracing.position_tables import position_limit
from edgefold.vocabulary.trimming import trim_vocabulary, used_tokens

CALIBRATION_BATCH = 16
Augment = Callable[[Sequence[Any]], Sequence[Any]]
"""augment(training examples) -> those to train with; never called with those for validation or test."""


@dataclass(frozen=True)
class OpenedStage:
    """A teacher as it lies on disk, and its checked examples."""

    job: Job
    task: Task
    teacher: nn.Module
    processor: Any
    splits: Splits

    def used_tokens(self, min_count: int) -> set[int]:
        """The tokens of its training examples.

        Raises:
            InputError: the task has no texts.
        """
        if self.task.texts is None:
            raise InputError(
                f"vocabulary: the task {self.job.task} has no texts to trim a vocabulary to; leave it out."
            )
        return set(used_tokens(self.processor, self.task.texts(self.splits.train), min_count))

    def measure_teacher(self) -> dict[str, float]:
        """The teacher's metrics on the test data, with its own, whole vocabulary."""
        test = self.task.encode(self.splits.test, self.processor, self.job.data)
        collate = self.task.collator(self.processor, self.job.data, self.teacher)
        return self.task.evaluate(self.teacher.eval(), test, collate)


@dataclass(frozen=True)
class StageInputs:
    """A teacher with the vocabulary of the student, and its data as rows and batches."""

    teacher: nn.Module
    processor: Any
    train: Any
    validation: Any
    test: Any
    collate: Collate
    batches: list[dict[str, Tensor]]
    """For calibration."""

    @cached_property
    def graph(self) -> DimensionGraph:
        """Of the teacher."""
        return trace(self.teacher.cpu(), self.example)

    @property
    def example(self) -> dict[str, Tensor]:
        """The batch to trace with: the middle one, of middling length where rows have lengths."""
        return self.batches[(len(self.batches) - 1) // 2]


def open_stage(job: Job, augment: Augment | None = None) -> OpenedStage:
    """Open the teacher, read every example, and augment those for training.

    Raises:
        InputError: the teacher cannot be opened, or an example is bad.
    """
    task = TASKS[job.task]
    processor, teacher = task.open_processor(job.teacher), task.open_teacher(job.teacher)
    splits = task.read(job.data, teacher)
    train = splits.train if task.augment is None else task.augment(splits.train, processor, teacher, job.data)
    train = train if augment is None else augment(train)
    return OpenedStage(job, task, teacher, processor, Splits(train, splits.validation, splits.test))


def prepare(opened: OpenedStage, tokens: Iterable[int] | None) -> StageInputs:
    """Rows and batches; with `tokens`, teacher and processor know these alone.

    Raises:
        InputError: a row is longer than the teacher's table of positions.
    """
    task, job, splits = opened.task, opened.job, opened.splits
    teacher, processor = opened.teacher, opened.processor
    if tokens is not None:
        teacher, processor = trim_vocabulary(teacher, processor, tokens)
    train, validation, test = (
        task.encode(examples, processor, job.data) for examples in (splits.train, splits.validation, splits.test)
    )
    for split, rows in (("train", train), ("validation", validation), ("test", test)):
        _check_lengths(teacher, split, rows)
    collate = task.collator(processor, job.data, teacher)
    batches = bare_batches(train, collate, CALIBRATION_BATCH, job.calibration.samples, task.label_names)
    return StageInputs(teacher, processor, train, validation, test, collate, batches)


def _check_lengths(teacher: nn.Module, split: str, rows: Any) -> None:
    limit, longest = position_limit(teacher), max(getattr(rows, "lengths", None) or [0])
    if limit is not None and longest > limit:
        raise InputError(
            f"The longest row of data.{split} has {longest} tokens, the teacher has positions for {limit}; set "
            f"data.max_length to {limit} or less."
        )
