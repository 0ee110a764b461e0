"""Labelled text from csv, tsv or jsonl files, checked row by row; plain Python, no framework."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefold.errors import InputError

SUFFIXES = {".csv": ",", ".tsv": "\t", ".jsonl": None}
"""Known files, with the delimiter of those that are tables."""


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
        label_names: the labels in the order of their indices (a teacher's own); None sorts those that train has.

    Raises:
        InputError: a file or column is missing, a row is bad, or a label is not one of `label_names`.
    """
    rows = {split: read_rows(paths[split], text=text, label=label) for split in ("train", "validation", "test")}
    names = tuple(label_names) if label_names else find_label_names(rows["train"])
    known = f"the labels {'of the teacher' if label_names else 'in the training data'} are {_list(names)}"
    if len(names) < 2:
        raise InputError(f"{paths['train']} has the one label {_list(names)}; a classifier needs two or more.")
    examples = {split: _index_labels(found, names, paths[split], known) for split, found in rows.items()}
    return TextSplits(names, examples["train"], examples["validation"], examples["test"])


def read_rows(path: str | Path, *, text: str, label: str) -> list[Row]:
    """Read every row of a file of labelled text.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = _check_file(path)
    rows = []
    for line, record in _records(file, (text, label)):
        where = f"{file}, line {line}"
        rows.append(Row(_text_value(record[text], text, where), _label_value(record[label], label, where), line))
    return rows


def read_texts(path: str | Path, *, text: str = "text") -> list[str]:
    """Read the texts alone: a column of a csv, tsv or jsonl file, or each line of a txt file that is not blank.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = _check_file(path, extra=(".txt",))
    if file.suffix.lower() == ".txt":
        texts = [line.strip() for line in _read_text(file).split("\n") if line.strip()]
        return texts or _refuse_empty(file)
    return [_text_value(record[text], text, f"{file}, line {line}") for line, record in _records(file, (text,))]


def find_label_names(rows: Sequence[Row]) -> tuple[str, ...]:
    """The distinct labels, sorted; as numbers where all are whole numbers."""
    labels = {row.label for row in rows}
    if all(label.lstrip("-").isdecimal() for label in labels):
        return tuple(sorted(labels, key=int))
    return tuple(sorted(labels))


def _index_labels(rows: Sequence[Row], names: Sequence[str], path: str | Path, known: str) -> tuple[Example, ...]:
    index = {name: i for i, name in enumerate(names)}
    for row in rows:
        if row.label not in index:
            raise InputError(f"{path}, line {row.line}: unknown label {row.label!r}; {known}.")
    return tuple(Example(row.text, index[row.label]) for row in rows)


def _check_file(path: str | Path, extra: Sequence[str] = ()) -> Path:
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"The data file {file} {what}; give a {', '.join([*SUFFIXES, *extra])} file.")
    if file.suffix.lower() not in {*SUFFIXES, *extra}:
        raise InputError(f"The data file {file} is of no known kind; give one of {', '.join([*SUFFIXES, *extra])}.")
    return file


def _records(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Every record with its line number, each with all the columns asked for; at least one."""
    delimiter = SUFFIXES[file.suffix.lower()]
    records = _json_records(file) if delimiter is None else _table_records(file, delimiter, columns)
    is_empty = True
    for line, record in records:
        is_empty = False
        missing = [column for column in columns if column not in record]
        if missing:
            raise InputError(f"{file}, line {line}: no column {missing[0]!r}; those present are {_list(record)}.")
        yield line, record
    if is_empty:
        _refuse_empty(file)


def _table_records(file: Path, delimiter: str, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(_read_text(file), newline=""), delimiter=delimiter, strict=True)
    try:
        present = reader.fieldnames or _refuse_empty(file)
        for column in columns:
            if column not in present:
                raise InputError(f"{file}: no column {column!r}; those present are {_list(present)}.")
        for record in reader:
            if None in record or None in record.values():
                found = len(present) + len(record.get(None, ())) - sum(value is None for value in record.values())
                raise InputError(
                    f"{file}, line {reader.line_num}: {found} fields where the first line names {len(present)}; "
                    "a text that holds the delimiter or a line break must stand in double quotes."
                )
            yield reader.line_num, record
    except csv.Error as error:
        raise InputError(f"{file}, after line {reader.line_num}: not a valid table: {error}.") from None


def _json_records(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(_read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{file}, line {number}: not valid JSON: {error}.") from None
        if not isinstance(record, dict):
            raise InputError(
                f"{file}, line {number}: {type(record).__name__} where an object with the columns should be."
            )
        yield number, record


def _read_text(file: Path) -> str:
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}.") from None


def _text_value(value: object, column: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        what = "empty text" if value is None or isinstance(value, str) else f"{type(value).__name__} instead of text"
        raise InputError(f"{where}: {what} in column {column!r}; remove the row or give it a text.")
    return value.strip()


def _label_value(value: object, column: str, where: str) -> str:
    text = str(value).strip() if isinstance(value, str | int) else ""
    if not text:
        raise InputError(f"{where}: {value!r} is no label in column {column!r}; a label is text or a whole number.")
    return text


def _refuse_empty(file: Path) -> Any:
    raise InputError(f"The data file {file} is empty; it needs at least one row.")


def _list(names: Any, limit: int = 20) -> str:
    shown = [repr(name) for name in list(names)[:limit]]
    return ", ".join(shown) + (", ..." if len(names) > limit else "")
