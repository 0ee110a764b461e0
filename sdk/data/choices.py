"""Choices by categorical ids, such as user and item, with a label, from csv, tsv or jsonl files, checked row by row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefold.data.records import check_data_file, quoted, read_records
from edgefold.data.texts import label_value
from edgefold.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One row: an id for each column, and the label."""

    ids: tuple[int, ...]
    label: str
    line: int


def read_choices(path: str | Path, *, columns: Sequence[str], label: str) -> list[Choice]:
    """Read every row; ids are whole numbers of at least 0.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path)
    rows = []
    for line, record in read_records(file, (*columns, label)):
        where = f"{file}, line {line}"
        ids = tuple(_id(record, column, where) for column in columns)
        rows.append(Choice(ids, label_value(record[label], label, where), line))
    return rows


def find_choice_names(rows: Sequence[Choice]) -> tuple[str, ...]:
    """The distinct labels, sorted; as numbers where all are whole numbers."""
    labels = {row.label for row in rows}
    return tuple(sorted(labels, key=int if all(label.lstrip("-").isdecimal() for label in labels) else str))


def check_choices(rows: Sequence[Choice], names: Sequence[str], path: str | Path) -> None:
    """Refuse labels that are not among these.

    Raises:
        InputError: naming the file and the line.
    """
    known = set(names)
    for row in rows:
        if row.label not in known:
            raise InputError(f"{path}, line {row.line}: unknown label {row.label!r}; known are {quoted(names)}.")


def _id(record: Mapping[str, object], column: str, where: str) -> int:
    value = record[column]
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text.isdecimal():
        raise InputError(f"{where}: {value!r} in column {column!r} is no id; an id is a whole number of at least 0.")
    return int(text)
