"""Text regression: a number for a text, or for a pair of texts, as how alike they are."""

from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from edgefold.data.texts import read_valued_splits
from edgefold.distillation import logits_of
from edgefold.errors import InputError
from edgefold.recipes.data import TextData
from edgefold.scores.rankings import correlation, rank_correlation
from edgefold.tasks.batches import run_over
from edgefold.tasks.opening import open_headless, padding_tokenizer, teacher_opener
from edgefold.tasks.task import Collate, Metric, Splits, Task
from edgefold.tasks.text_classification import augment, texts_of, tokenize


def evaluate_values(model: nn.Module, dataset: Any, collate: Collate) -> dict[str, float]:
    """Pearson's and Spearman's correlation with the labels, 0 where one never varies; the mean squared error."""
    found, labels = [], []
    for _, batch, outputs in run_over(model, dataset, collate):
        found += logits_of(outputs).flatten().tolist()
        labels += batch["labels"].flatten().tolist()
    error = sum((value - label) ** 2 for value, label in zip(found, labels, strict=True)) / len(labels)
    return {
        "pearson": correlation(found, labels) or 0.0,
        "spearman": rank_correlation(found, labels) or 0.0,
        "mean_squared_error": error,
    }


def _read(data: TextData, teacher: Any) -> Splits:
    outputs = teacher.config.num_labels
    if outputs != 1:
        raise InputError(
            f"The teacher has {outputs} outputs; for text-regression it has one, a number (num_labels=1 when it is "
            "made). For a class among several there is text-classification."
        )
    splits = read_valued_splits(data.paths, text=data.text, label=data.label, text_pair=data.text_pair)
    return Splits(splits.train, splits.validation, splits.test)


def _start_teacher(folder: Path, data: TextData) -> nn.Module:
    one: dict[str, Any] = {"num_labels": 1, "problem_type": "regression", "ignore_mismatched_sizes": True}
    return open_headless(AutoModelForSequenceClassification, folder, **one)


TEXT_REGRESSION = Task(
    metrics=(Metric("pearson"), Metric("spearman"), Metric("mean_squared_error", greater_is_better=False)),
    open_teacher=teacher_opener(AutoModelForSequenceClassification),
    start_teacher=_start_teacher,
    read=_read,
    encode=lambda examples, tokenizer, data: tokenize(examples, tokenizer, data.max_length),
    collator=lambda tokenizer, data, teacher: DataCollatorWithPadding(padding_tokenizer(tokenizer)),
    evaluate=evaluate_values,
    augment=augment,
    texts=texts_of,
)
