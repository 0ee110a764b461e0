"""Fine-tuning a pretrained model on a task: how a teacher comes about."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer

from edgefold.jobs.training_runs import (
    CurvePoint,
    Progress,
    curve,
    evaluate_every_epoch,
    no_progress,
    training_arguments,
    use_threads,
    watch,
)
from edgefold.recipes.data import SplitData
from edgefold.recipes.recipe import DEFAULT_TASK, TrainingSettings
from edgefold.staging import check_output_folder, staged_folder
from edgefold.tasks.table import TASKS


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model's folder and how it went."""

    folder: Path
    seconds: float
    curve: list[CurvePoint]


def fine_tune(
    pretrained: Path,
    data: SplitData,
    settings: TrainingSettings,
    out: Path,
    *,
    task: str = DEFAULT_TASK,
    progress: Progress = no_progress,
) -> FineTuned:
    """Put the task's head on a pretrained model, train all of it, and save an ordinary checkpoint.

    Args:
        data: in the form that the task asks for; `test` is checked, but nothing is measured on it.

    Raises:
        InputError: bad data, a model that does not fit the task, or an `out` that exists and is not empty.
    """
    check_output_folder(out)
    use_threads(settings.threads)
    torch.manual_seed(settings.seed)
    asked = TASKS[task]
    processor = asked.open_processor(pretrained)
    model: Any = asked.start_teacher(pretrained, data)
    splits = asked.read(data, model)
    train, validation = (asked.encode(examples, processor, data) for examples in (splits.train, splits.validation))
    collate = asked.collator(processor, data, model)
    by_length = getattr(train, "lengths", None) is not None
    with staged_folder(out) as folder:
        trainer = Trainer(
            model=model.train(),
            args=training_arguments(settings, folder, False, asked.label_names, by_length),
            train_dataset=train,
            data_collator=collate,
        )
        watch(trainer, "teacher", progress)
        evaluate_every_epoch(trainer, lambda: asked.evaluate(model, validation, collate))
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
        for saved in (model, processor):
            saved.save_pretrained(folder)
    return FineTuned(out, seconds, curve(trainer))
