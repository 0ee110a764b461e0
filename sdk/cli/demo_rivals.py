"""The trained rivals of the demo, each given the student's seconds: a random start, and every second layer."""

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModelForSequenceClassification, TrainerCallback

from edgefold.distillation import Objective
from edgefold.jobs.training_runs import Progress, training_arguments, watch
from edgefold.recipes.recipe import Recipe, TrainingSettings
from edgefold.student_building import build_student
from edgefold.tasks.task import Collate, Rows
from edgefold.training import CompressionTrainer

TEACHER_CACHE_GIB = 4.0
SECOND_LAYER_LEARNING_RATE = 1e-4
"""A pretrained layer at full width wants the rate of fine-tuning, not that of the narrow student."""
RANDOM_START_LEARNING_RATE = 5e-4
"""At the student's rate and with hidden states to match through no projection of its own, it does not learn at all."""


def random_start(teacher: nn.Module, recipe: Recipe, batches: list[dict[str, torch.Tensor]]) -> nn.Module:
    """The student's architecture with the weights that training from scratch begins with."""
    student = build_student(teacher, recipe.to_plan(), batches[len(batches) // 2], batches[:1], start="pca")
    return type(student.module)(copy.deepcopy(student.module.config))


def every_second_layer(teacher_folder: Path) -> nn.Module:
    """The teacher with its layers 1, 3, 5, ... alone (DistilBERT, Sanh et al., 2019)."""
    model: Any = AutoModelForSequenceClassification.from_pretrained(teacher_folder, local_files_only=True)
    depth = model.config.num_hidden_layers
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                setattr(module, name, nn.ModuleList(list(child)[1::2]))
    model.config.num_hidden_layers = len(range(1, depth, 2))
    return model  # type: ignore[no-any-return]


def train_for(
    seconds: float,
    student: nn.Module,
    teacher: nn.Module,
    objective: Objective,
    settings: TrainingSettings,
    train: Rows,
    collate: Collate,
    folder: Path,
    stage: str,
    progress: Progress,
    now: Callable[[], float] = time.perf_counter,
) -> float:
    """Train for this many seconds of the clock `now`, warm-up and decay measured by it; returns the seconds it took."""
    endless = settings.model_copy(update={"epochs": 1000})
    by_length = getattr(train, "lengths", None) is not None
    arguments = training_arguments(endless, folder, checkpoints=False, by_length=by_length)
    optimizer = torch.optim.AdamW(student.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    clock = _Clock(seconds, settings.warmup_ratio, now)
    trainer = CompressionTrainer(
        student.train(),
        teacher=teacher,
        objective=objective,
        args=arguments,
        train_dataset=train,
        data_collator=collate,
        teacher_cache_gib=TEACHER_CACHE_GIB,
        optimizers=(optimizer, LambdaLR(optimizer, clock.factor)),
    )
    watch(trainer, stage, _by_the_clock(progress, clock))
    trainer.add_callback(_StopInTime(clock))
    clock.start()
    trainer.train()
    student.eval()
    return clock.elapsed


class _Clock:
    """The share of the time that has passed, and the learning rate's factor then."""

    def __init__(self, seconds: float, warmup: float, now: Callable[[], float]) -> None:
        self.seconds = seconds
        self._warmup = warmup
        self._now = now
        self._begun = math.nan

    def start(self) -> None:
        self._begun = self._now()

    @property
    def elapsed(self) -> float:
        return 0.0 if math.isnan(self._begun) else self._now() - self._begun

    def factor(self, step: int) -> float:
        share = min(1.0, self.elapsed / self.seconds)
        return share / self._warmup if share < self._warmup else (1 - share) / (1 - self._warmup)


class _StopInTime(TrainerCallback):
    def __init__(self, clock: _Clock) -> None:
        self._clock = clock

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = self._clock.elapsed >= self._clock.seconds


def _by_the_clock(progress: Progress, clock: _Clock) -> Progress:
    """Progress in seconds instead of steps."""
    show: Callable[..., None] = progress
    return lambda stage, done, total, figures: show(
        stage, min(int(clock.elapsed), int(clock.seconds)), int(clock.seconds), figures
    )
