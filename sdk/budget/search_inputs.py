"""What a search works on: a teacher, batches to calibrate and to judge by, and inputs of the shape of the budget."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph, trace
from edgefold.jobs.stage_inputs import CALIBRATION_BATCH
from edgefold.recipes.recipe import Recipe
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.table import TASKS

HELD_OUT_ROWS = 96


@dataclass(frozen=True)
class SearchInputs:
    """A teacher with its data."""

    teacher: nn.Module
    inputs: dict[str, Tensor]
    """Two rows of the length that the budget is about."""
    calibration: list[dict[str, Tensor]]
    held_out: list[dict[str, Tensor]]
    """Of the validation data."""
    teacher_quality: float
    """By the task's main metric on all of the validation data."""

    @property
    def has_tokens(self) -> bool:
        """Whether rows are as long as they are asked to be."""
        return _ids(self.inputs) is not None

    @cached_property
    def graph(self) -> DimensionGraph:
        """Of the teacher."""
        return trace(self.teacher, self.inputs)


def read_inputs(recipe: Recipe, sequence: int) -> SearchInputs:
    """Open and read what a recipe names, under its seed.

    Args:
        sequence: tokens of a row; of images nothing is changed.

    Raises:
        InputError: bad data, or a teacher that cannot be opened.
    """
    torch.manual_seed(recipe.training.seed)
    task = TASKS[recipe.task]
    processor, teacher = task.open_processor(recipe.teacher), task.open_teacher(recipe.teacher)
    splits = task.read(recipe.data, teacher)
    train, validation = (task.encode(part, processor, recipe.data) for part in (splits.train, splits.validation))
    collate = task.collator(processor, recipe.data, teacher)
    calibration = bare_batches(train, collate, CALIBRATION_BATCH, recipe.calibration.samples, task.label_names)
    held_out = bare_batches(validation, collate, CALIBRATION_BATCH, HELD_OUT_ROWS, task.label_names)
    quality = task.evaluate(teacher, validation, collate)[task.metrics[0].name]
    return SearchInputs(teacher, _of_length(calibration[0], sequence), calibration, held_out, quality)


def _ids(batch: Batch) -> Tensor | None:
    return next((value for value in batch.values() if value.dim() == 2 and not value.is_floating_point()), None)


def _of_length(batch: Batch, sequence: int) -> dict[str, Tensor]:
    """Two rows of a batch; rows of tokens are repeated or cut to this length."""
    ids = _ids(batch)
    if ids is None:
        return {name: value[:2] for name, value in batch.items()}
    length = ids.shape[1]
    times = -(-sequence // length)
    return {
        name: value[:2].repeat(1, times)[:, :sequence] if value.dim() == 2 and value.shape[1] == length else value[:2]
        for name, value in batch.items()
    }
