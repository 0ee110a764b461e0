"""Text classification: one label for a text, or for a pair of texts."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding

from edgefold.augmentation import replace_words
from edgefold.data.texts import Example, find_label_names, read_rows, read_splits
from edgefold.distillation import logits_of
from edgefold.recipes.data import TextData
from edgefold.tasks.batches import EVALUATION_BATCH, EncodedRows, run_over
from edgefold.tasks.opening import check_label_count, known_labels, open_with_labels, padding_tokenizer, teacher_opener
from edgefold.tasks.task import Collate, Metric, Splits, Task


def tokenize(examples: Sequence[Example], tokenizer: Any, max_length: int) -> EncodedRows:
    """Labelled texts as token ids, cut to a length, not padded.

    Of pairs the longer is cut first, and there is all that the model reads, as which token is of which text.
    """
    pairs = [example.pair for example in examples if example.pair is not None]
    seconds = [pairs] if pairs else []
    encoded = tokenizer([example.text for example in examples], *seconds, truncation=True, max_length=max_length)
    read = tokenizer.model_input_names if pairs else ("input_ids", "attention_mask")
    names = [name for name in encoded if name in read]
    return EncodedRows(
        [{**{name: encoded[name][i] for name in names}, "labels": example.label} for i, example in enumerate(examples)]
    )


def accuracy(model: nn.Module, dataset: Any, collate: Collate, batch_size: int = EVALUATION_BATCH) -> float:
    """The share of rows whose largest logit is the label's."""
    correct = 0
    for _, batch, outputs in run_over(model, dataset, collate, size=batch_size):
        correct += int((logits_of(outputs).argmax(-1) == batch["labels"]).sum())
    return correct / len(dataset)


def _read(data: TextData, teacher: Any) -> Splits:
    names = known_labels(teacher)
    splits = read_splits(data.paths, text=data.text, label=data.label, text_pair=data.text_pair, label_names=names)
    check_label_count(teacher, splits.label_names)
    return Splits(splits.train, splits.validation, splits.test)


def augment(examples: Sequence[Example], tokenizer: Any, teacher: nn.Module, data: TextData) -> Sequence[Example]:
    """The examples, and after them their copies."""
    settings = data.augmentation
    if settings is None:
        return examples
    copies = replace_words(list(texts_of(examples)), tokenizer, teacher, **settings.model_dump())
    return [*examples, *(changed for copy in copies for changed in _with_texts(examples, iter(copy)))]


def texts_of(examples: Sequence[Example]) -> Iterator[str]:
    """Every text, those of a pair one after the other."""
    return (text for example in examples for text in (example.text, example.pair) if text is not None)


def _with_texts(examples: Sequence[Example], texts: Iterator[str]) -> Iterator[Example]:
    for example in examples:
        first = next(texts)
        yield replace(example, text=first, pair=None if example.pair is None else next(texts))


def _start_teacher(folder: Path, data: TextData) -> nn.Module:
    names = find_label_names(read_rows(data.train, text=data.text, label=data.label, text_pair=data.text_pair))
    return open_with_labels(AutoModelForSequenceClassification, folder, names)


TEXT_CLASSIFICATION = Task(
    metrics=(Metric("accuracy"),),
    open_teacher=teacher_opener(AutoModelForSequenceClassification),
    start_teacher=_start_teacher,
    read=_read,
    encode=lambda examples, tokenizer, data: tokenize(examples, tokenizer, data.max_length),
    collator=lambda tokenizer, data, teacher: DataCollatorWithPadding(padding_tokenizer(tokenizer)),
    evaluate=lambda model, dataset, collate: {"accuracy": accuracy(model, dataset, collate)},
    augment=augment,
    texts=texts_of,
)
