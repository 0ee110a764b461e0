"""Fine-tuning a pretrained encoder for text classification: how a teacher comes about."""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer
from transformers.utils import logging as transformers_logging

from edgefold.recipes import TrainingSettings
from edgefold.staging import staged_folder
from edgefold.text_classification import (
    CurvePoint,
    Progress,
    TokenizedText,
    accuracy_metric,
    curve,
    no_progress,
    training_arguments,
    use_threads,
    watch,
)
from edgefold.text_data import TextSplits


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model's folder and how it went."""

    folder: Path
    seconds: float
    curve: list[CurvePoint]


def fine_tune(
    pretrained: Path,
    splits: TextSplits,
    settings: TrainingSettings,
    out: Path,
    *,
    max_length: int,
    progress: Progress = no_progress,
) -> FineTuned:
    """Put a classification head on a pretrained encoder, train all of it, and save an ordinary checkpoint.

    Raises:
        InputError: `out` exists and is not empty.
    """
    use_threads(settings.threads)
    torch.manual_seed(settings.seed)
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # the new head's weights are meant to be new
    tokenizer = AutoTokenizer.from_pretrained(pretrained, local_files_only=True)
    labels = dict(enumerate(splits.label_names))
    model = AutoModelForSequenceClassification.from_pretrained(
        pretrained,
        local_files_only=True,
        num_labels=len(labels),
        id2label=labels,
        label2id={name: index for index, name in labels.items()},
    )
    with staged_folder(out) as folder:
        trainer = Trainer(
            model=model,
            args=training_arguments(settings, folder, checkpoints=False),
            train_dataset=TokenizedText(splits.train, tokenizer, max_length),
            eval_dataset=TokenizedText(splits.validation, tokenizer, max_length),
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=accuracy_metric,
        )
        watch(trainer, "teacher", progress)
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return FineTuned(out, seconds, curve(trainer))
