"""Text classification on transformers.Trainer: tokenized data, training arguments, progress, accuracy."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from edgefold.recipes import TrainingSettings
from edgefold.text_data import Example

Progress = Callable[[str, int, int, Mapping[str, float]], None]
"""progress(stage, done, total, figures): how far a stage has come, figures of the moment (loss, ...)."""


def no_progress(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
    """Say nothing."""


class TokenizedText(Dataset[dict[str, Any]]):
    """Labelled texts as token ids, cut to a length, not padded."""

    def __init__(self, examples: Sequence[Example], tokenizer: Any, max_length: int) -> None:
        encoded = tokenizer([example.text for example in examples], truncation=True, max_length=max_length)
        names = [name for name in encoded if name in ("input_ids", "attention_mask")]
        self._rows = [
            {**{name: encoded[name][i] for name in names}, "labels": example.label}
            for i, example in enumerate(examples)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(self._rows[index])

    def batches(self, tokenizer: Any, size: int, limit: int | None = None) -> list[dict[str, torch.Tensor]]:
        """Padded batches without labels, rows of like length together."""
        rows = self._rows[:limit]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
        pad = DataCollatorWithPadding(tokenizer)
        bare = [{name: value for name, value in rows[i].items() if name != "labels"} for i in order]
        return [dict(pad(bare[i : i + size])) for i in range(0, len(bare), size)]


@dataclass(frozen=True)
class CurvePoint:
    """Figures logged at one step of training."""

    step: int
    epoch: float
    figures: dict[str, float]


def training_arguments(settings: TrainingSettings, folder: Path, checkpoints: bool) -> TrainingArguments:
    """AdamW, linear schedule with warm-up, batches of like length; nothing reported anywhere."""
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=settings.learning_rate,
        warmup_steps=settings.warmup_ratio,
        lr_scheduler_type="linear",
        seed=settings.seed,
        bf16=_use_bf16(settings),
        train_sampling_strategy="group_by_length",
        save_strategy="steps" if checkpoints else "no",
        save_steps=settings.checkpoint_steps,
        save_total_limit=2,
        eval_strategy="epoch",
        logging_steps=20,
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
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


class _Watcher(TrainerCallback):
    def __init__(self, stage: str, progress: Progress) -> None:
        self._stage = stage
        self._progress = progress
        self._figures: dict[str, float] = {}

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs") or {}
        self._figures |= {name: float(logs[name]) for name in ("loss", "eval_accuracy") if name in logs}

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._progress(self._stage, state.global_step, state.max_steps, self._figures)


def curve(trainer: Trainer) -> list[CurvePoint]:
    """What was logged, in order of steps."""
    return [
        CurvePoint(
            int(entry["step"]),
            float(entry["epoch"]),
            {name: float(value) for name, value in entry.items() if name not in ("step", "epoch")},
        )
        for entry in trainer.state.log_history
        if "loss" in entry or "eval_accuracy" in entry
    ]


def accuracy_metric(prediction: Any) -> dict[str, float]:
    """For Trainer's compute_metrics."""
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def accuracy(model: nn.Module, dataset: TokenizedText, tokenizer: Any, batch_size: int = 64) -> float:
    """The share of rows whose largest logit is the label's."""
    order = sorted(range(len(dataset)), key=lambda i: len(dataset[i]["input_ids"]))
    pad = DataCollatorWithPadding(tokenizer)
    device = next(model.parameters()).device
    correct = 0
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            batch = {
                name: value.to(device)
                for name, value in pad([dataset[i] for i in order[start : start + batch_size]]).items()
            }
            labels = batch.pop("labels")
            correct += int((model.eval()(**batch).logits.argmax(-1) == labels).sum())
    return correct / len(dataset)


def use_threads(threads: int | None) -> int:
    """Set torch's CPU threads: as asked, else one for each core this process may use."""
    chosen = threads or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1))
    torch.set_num_threads(chosen)
    return chosen
