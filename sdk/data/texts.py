"""Labelled text from csv, tsv or jsonl files, checked row by row; plain Python, no framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefold.data.records import DELIMITERS, check_data_file, quoted, read_records, read_utf8, refuse_empty, text_value
from edgefold.errors import InputError


@dataclass(frozen=True)
class Row:
    """One labelled text, and where it stood."""

    text: str
    label: str
    line: int


@dataclass(frozen=True)
class Example:
    """One text with the index of its label."""

    text: str
    label: int


@dataclass(frozen=True)
class TextSplits:
    """Train, validation and test, with the labels' names in the order of their indices."""

    label_names: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]


def read_splits(
    paths: Mapping[str, str | Path], *, text: str, label: str, label_names: Sequence[str] | None = None
) -> TextSplits:
    """Read the files of "train", "validation" and "test".

    Args:
        label_names: the labels in the order of their indices (a teacher's own), which the rows may give by these
            indices, too; None sorts those that train has.

    Raises:
        InputError: a file or column is missing, a row is bad, or a label is not one of `label_names`.
    """
    rows = {split: read_rows(paths[split], text=text, label=label) for split in ("train", "validation", "test")}
    names = tuple(label_names) if label_names else find_label_names(rows["train"])
    known = f"the labels {'of the teacher' if label_names else 'in the training data'} are {quoted(names)}"
    if len(names) < 2:
        raise InputError(f"{paths['train']} has the one label {quoted(names)}; a classifier needs two or more.")
    numbers = {name: i for i, name in enumerate(names)}
    if label_names and not any(name.isdecimal() for name in names):
        numbers |= {str(i): i for i in range(len(names))}  # class ids, as datasets have them
    examples = {split: _index_labels(found, numbers, paths[split], known) for split, found in rows.items()}
    return TextSplits(names, examples["train"], examples["validation"], examples["test"])


def read_rows(path: str | Path, *, text: str, label: str) -> list[Row]:
    """Read every row of a file of labelled text.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path)
    rows = []
    for line, record in read_records(file, (text, label)):
        where = f"{file}, line {line}"
        rows.append(Row(text_value(record[text], text, where), label_value(record[label], label, where), line))
    return rows


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
    return tuple(Example(row.text, index[row.label]) for row in rows)


def label_value(value: object, column: str, where: str) -> str:
    """A label as text.

    Raises:
        InputError: it is neither a text nor a whole number; `where` names the file and the line.
    """
    text = str(value).strip() if isinstance(value, str | int) else ""
    if not text:
        raise InputError(f"{where}: {value!r} is no label in column {column!r}; a label is text or a whole number.")
    return text
