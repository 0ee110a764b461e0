"""A run of transformers.Trainer: its arguments, who watches it, and what was measured after every epoch."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from edgefold.recipes.recipe import TrainingSettings

Progress = Callable[[str, int, int, Mapping[str, float]], None]
"""progress(stage, done, total, figures): how far a stage has come, figures of the moment (loss, ...)."""


def no_progress(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class CurvePoint:
    """Figures logged at one step of training."""

    step: int
    epoch: float
    figures: dict[str, float]
    stage: str = ""
    """Of a recipe with several."""


def training_arguments(
    settings: TrainingSettings,
    folder: Path,
    checkpoints: bool,
    label_names: Sequence[str] = ("labels",),
    by_length: bool = True,
    name: str | None = None,
) -> TrainingArguments:
    """AdamW, linear schedule with warm-up, batches of like length; `name` is what trackers call the run."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        per_device_eval_batch_size=64,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type="linear",
        seed=settings.seed,
        bf16=_use_bf16(settings),
        use_cpu=_use_bf16(settings) and not torch.accelerator.is_available(),  # else bf16 would want a GPU
        train_sampling_strategy="group_by_length" if by_length else "random",
        save_strategy="steps" if checkpoints else "no",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        eval_strategy="no",
        logging_steps=20,
        label_names=list(label_names),
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        accelerator_config={"non_blocking": torch.cuda.is_available()},  # batches are copied while the card computes
        report_to=list(settings.report_to),
        run_name=name,
        disable_tqdm=True,
    )


def _use_bf16(settings: TrainingSettings) -> bool:
    """Automatic only where it was seen to pay: on GPUs that have it."""
    if settings.bf16 == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return settings.bf16


def watch(trainer: Trainer, stage: str, progress: Progress) -> None:
    """Replace the Trainer's own printing by a call to `progress`."""
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(_Watcher(stage, progress))


def evaluate_every_epoch(trainer: Trainer, evaluate: Callable[[], Mapping[str, float]]) -> None:
    """Log what `evaluate` returns after every epoch, as eval_accuracy, ..."""
    trainer.add_callback(_EpochEvaluation(trainer, evaluate))


class _EpochEvaluation(TrainerCallback):
    def __init__(self, trainer: Trainer, evaluate: Callable[[], Mapping[str, float]]) -> None:
        self._trainer = trainer
        self._evaluate = evaluate

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._trainer.log({f"eval_{name}": value for name, value in self._evaluate().items()})


class _Watcher(TrainerCallback):
    def __init__(self, stage: str, progress: Progress) -> None:
        self._stage = stage
        self._progress = progress
        self._figures: dict[str, float] = {}

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        self._figures |= {name: float(logs[name]) for name in logs if _is_shown(name)}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._progress(self._stage, state.global_step, state.max_steps, self._figures)


def curve(trainer: Trainer, stage: str = "") -> list[CurvePoint]:
    """What was logged, in order of steps."""
    return [
        CurvePoint(
            int(entry["step"]),
            float(entry["epoch"]),
            {name: float(value) for name, value in entry.items() if name not in ("step", "epoch")},
            stage,
        )
        for entry in trainer.state.log_history
        if any(map(_is_shown, entry))
    ]


def _is_shown(figure: str) -> bool:
    return figure == "loss" or figure.startswith("eval_")


def use_threads(threads: int | None) -> int:
    """Set torch's CPU threads: as asked, else as OMP_NUM_THREADS says, else one for each core this process may use.

    On a machine whose cores are taken, threads that wait for each other take several times as long as one alone.
    """
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdigit():
        threads = int(os.environ["OMP_NUM_THREADS"])
    chosen = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    torch.set_num_threads(chosen)
    return chosen
