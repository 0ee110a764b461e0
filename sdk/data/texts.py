"""Labelled text from csv, tsv or jsonl files, checked row by row; plain Python, no framework."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefold.data.records import (
    DELIMITERS,
    Record,
    check_data_file,
    quoted,
    read_records,
    read_utf8,
    refuse_empty,
    text_value,
)
from edgefold.errors import InputError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Row:
    """One labelled text, and where it stood."""

    text: str
    label: str
    line: int
    pair: str | None = None


@dataclass(frozen=True)
class Example:
    """One text, or a pair of texts, with the index of its label; or with its value."""

    text: str
    label: int | float
    pair: str | None = None
    """The second text, as of a premise and a hypothesis."""


@dataclass(frozen=True)
class TextSplits:
    """Train, validation and test, with the labels' names in the order of their indices; none where they are values."""

    label_names: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


def read_splits(
    paths: Mapping[str, str | Path],
    *,
    text: str,
    label: str,
    text_pair: str | None = None,
    label_names: Sequence[str] | None = None,
) -> TextSplits:
    """Read the files of "train", "validation" and "test".

    Args:
        text_pair: the column of the second texts, where each label is of two.
        label_names: the labels in the order of their indices (a teacher's own), which the rows may give by these
            indices, too; None sorts those that train has.

    Raises:
        InputError: a file or column is missing, a row is bad, or a label is not one of `label_names`.
    """
    rows = {split: read_rows(paths[split], text=text, label=label, text_pair=text_pair) for split in SPLITS}
    names = tuple(label_names) if label_names else find_label_names(rows["train"])
    known = f"the labels {'of the teacher' if label_names else 'in the training data'} are {quoted(names)}"
    if len(names) < 2:
        raise InputError(f"{paths['train']} has the one label {quoted(names)}; a classifier needs two or more.")
    numbers = {name: i for i, name in enumerate(names)}
    if label_names and not any(name.isdecimal() for name in names):
        numbers |= {str(i): i for i in range(len(names))}  # class ids, as datasets have them
    examples = {split: _index_labels(found, numbers, paths[split], known) for split, found in rows.items()}
    return TextSplits(names, examples["train"], examples["validation"], examples["test"])


def read_valued_splits(
    paths: Mapping[str, str | Path], *, text: str, label: str, text_pair: str | None = None
) -> TextSplits:
    """As `read_splits`, of texts whose labels are values: finite numbers.

    Raises:
        InputError: a file or column is missing, a row is bad, or a label is no number.
    """
    examples = {split: _read_valued(check_data_file(paths[split]), text, label, text_pair) for split in SPLITS}
    return TextSplits((), examples["train"], examples["validation"], examples["test"])


def read_rows(path: str | Path, *, text: str, label: str, text_pair: str | None = None) -> list[Row]:
    """Read every row of a file of labelled text, or of pairs of texts.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path)
    rows = []
    for line, record in read_records(file, (text, label, *([text_pair] if text_pair else []))):
        where = f"{file}, line {line}"
        first, pair = _texts_of(record, text, text_pair, where)
        rows.append(Row(first, label_value(record[label], label, where), line, pair))
    return rows


def read_text_pairs(path: str | Path, *, text: str, text_pair: str) -> list[tuple[str, str]]:
    """Read two columns of texts of a csv, tsv or jsonl file.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path)
    return [
        tuple(text_value(record[column], column, f"{file}, line {line}") for column in (text, text_pair))  # type: ignore[misc]
        for line, record in read_records(file, (text, text_pair))
    ]


def read_texts(path: str | Path, *, text: str = "text") -> list[str]:
    """Read the texts alone: a column of a csv, tsv or jsonl file, or each line of a txt file that is not blank.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path, (*DELIMITERS, ".txt"))
    if file.suffix.lower() == ".txt":
        texts = [line.strip() for line in read_utf8(file).split("\n") if line.strip()]
        return texts or refuse_empty(file)
    return [text_value(record[text], text, f"{file}, line {line}") for line, record in read_records(file, (text,))]


def find_label_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The distinct labels, sorted; as numbers where all are whole numbers."""
    labels = {row.label for row in rows}
    if all(label.lstrip("-").isdecimal() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _index_labels(rows: Sequence[Row], index: Mapping[str, int], path: str | Path, known: str) -> tuple[Example, ...]:
    for row in rows:
        if row.label not in index:
            raise InputError(f"{path}, line {row.line}: unknown label {row.label!r}; {known}.")
    return tuple(Example(row.text, index[row.label], row.pair) for row in rows)


def _read_valued(file: Path, text: str, label: str, text_pair: str | None) -> tuple[Example, ...]:
    examples = []
    for line, record in read_records(file, (text, label, *([text_pair] if text_pair else []))):
        where = f"{file}, line {line}"
        first, pair = _texts_of(record, text, text_pair, where)
        examples.append(Example(first, _number(record[label], label, where), pair))
    return tuple(examples)


def _texts_of(record: Record, text: str, text_pair: str | None, where: str) -> tuple[str, str | None]:
    first = text_value(record[text], text, where)
    return first, text_value(record[text_pair], text_pair, where) if text_pair else None


def _number(value: object, column: str, where: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InputError(
            f"{where}: {value!r} in column {column!r} is no finite number, as the labels of this task are."
        )
    return number


def label_value(value: object, column: str, where: str) -> str:
    """A label as text.

    Raises:
        InputError: it is neither a text nor a whole number; `where` names the file and the line.
    """
    text = str(value).strip() if isinstance(value, str | int) else ""
    if not text:
        raise InputError(f"{where}: {value!r} is no label in column {column!r}; a label is text or a whole number.")
    return text
