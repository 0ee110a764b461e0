"""Token classification: a tag for each word, read off its first piece."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification

from edgefold.data.tags import TaggedWords, check_tags, find_tag_names, read_tagged
from edgefold.distillation import logits_of
from edgefold.distillation.logits import IGNORED
from edgefold.errors import InputError
from edgefold.recipes.data import TaggedData
from edgefold.scores.spans import are_bio, span_f1
from edgefold.tasks.batches import EncodedRows, run_over
from edgefold.tasks.opening import (
    check_label_count,
    known_labels,
    open_tokenizer,
    open_with_labels,
    padding_tokenizer,
    teacher_opener,
)
from edgefold.tasks.task import Collate, Metric, Row, Splits, Task


class TaggedRows(EncodedRows):
    """Encoded sentences, with the names of their tags in the order of the labels."""

    def __init__(self, rows: list[Row], names: Sequence[str]) -> None:
        super().__init__(rows)
        self.names = tuple(names)


def align(words: Sequence[int | None], labels: Sequence[int]) -> list[int]:
    """A label for each piece: its word's on the first piece of a word, `IGNORED` on all others.

    Args:
        words: the number of the word that each piece is of, None for special tokens.
        labels: of the words.
    """
    before: list[int | None] = [None, *words[:-1]]
    return [
        IGNORED if word is None or word == previous else labels[word]
        for word, previous in zip(words, before, strict=True)
    ]


def evaluate_tags(model: nn.Module, dataset: TaggedRows, collate: Collate) -> dict[str, float]:
    """The share of words with the right tag, and for BIO tags the F1 of the spans. Words cut off are not counted."""
    predicted: list[list[str]] = []
    right: list[list[str]] = []
    for _, batch, outputs in run_over(model, dataset, collate):
        for chosen, labels in zip(logits_of(outputs).argmax(-1), batch["labels"], strict=True):
            counted = labels != IGNORED
            predicted.append([dataset.names[i] for i in chosen[counted].tolist()])
            right.append([dataset.names[i] for i in labels[counted].tolist()])
    pairs = [pair for p, r in zip(predicted, right, strict=True) for pair in zip(p, r, strict=True)]
    metrics = {"accuracy": sum(p == r for p, r in pairs) / max(len(pairs), 1)}
    return {**metrics, "span_f1": span_f1(predicted, right)} if are_bio(dataset.names) else metrics


def _read(data: TaggedData, teacher: Any) -> Splits:
    rows = {split: read_tagged(path, tokens=data.tokens, tags=data.tags) for split, path in data.paths.items()}
    known = known_labels(teacher)
    names = known or find_tag_names(rows["train"])
    for split, path in data.paths.items():
        check_tags(rows[split], names, path)
    check_label_count(teacher, names)
    return Splits(*([(row, names) for row in rows[split]] for split in data.paths))


def _open_tokenizer(folder: Path) -> Any:
    """The teacher's tokenizer, made to take words one by one where it reads the blanks before them."""
    tokenizer = open_tokenizer(folder)
    reads_blanks = getattr(tokenizer, "add_prefix_space", None) is False
    return open_tokenizer(folder, add_prefix_space=True) if reads_blanks else tokenizer


def _encode(examples: Sequence[tuple[TaggedWords, Sequence[str]]], tokenizer: Any, data: TaggedData) -> TaggedRows:
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"{type(tokenizer).__name__} cannot tell which word a piece is of; give the teacher a fast tokenizer "
            "(tokenizer.json)."
        )
    names = examples[0][1]
    number = {name: i for i, name in enumerate(names)}
    encoded = tokenizer(
        [list(row.words) for row, _ in examples],
        is_split_into_words=True,
        truncation=True,
        max_length=data.max_length,
    )
    kept = [name for name in encoded if name in ("input_ids", "attention_mask")]
    return TaggedRows(
        [
            {
                **{name: encoded[name][i] for name in kept},
                "labels": align(encoded.word_ids(i), [number[tag] for tag in row.tags]),
            }
            for i, (row, _) in enumerate(examples)
        ],
        names,
    )


def _start_teacher(folder: Path, data: TaggedData) -> nn.Module:
    names = find_tag_names(read_tagged(data.train, tokens=data.tokens, tags=data.tags))
    return open_with_labels(AutoModelForTokenClassification, folder, names)


TOKEN_CLASSIFICATION = Task(
    metrics=(Metric("accuracy"),),
    open_teacher=teacher_opener(AutoModelForTokenClassification),
    start_teacher=_start_teacher,
    read=_read,
    encode=_encode,
    collator=lambda tokenizer, data, teacher: DataCollatorForTokenClassification(padding_tokenizer(tokenizer)),
    evaluate=evaluate_tags,
    open_processor=_open_tokenizer,
    texts=lambda examples: (word for row, _ in examples for word in row.words),
)
