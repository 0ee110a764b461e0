"""Records of csv, tsv and jsonl files with their line numbers, checked as they are read; plain Python, no framework."""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from edgefold.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t", ".jsonl": None}
"""Known files, with the delimiter of those that are tables."""

LONGEST_FIELD = 2**31 - 1
"""Characters of a field of a table, where Python's own limit is 131,072: a document may be longer."""
Record = Mapping[str, Any]


def check_data_file(path: str | Path, allowed: Sequence[str] = tuple(DELIMITERS)) -> Path:
    """An existing file of one of these suffixes.

    Raises:
        InputError: naming the file and the suffixes.
    """
    file = Path(path)
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise InputError(f"The data file {file} {what}; give a {', '.join(allowed)} file.")
    if file.suffix.lower() not in allowed:
        raise InputError(f"The data file {file} is of no known kind; give one of {', '.join(allowed)}.")
    return file


def read_records(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, Record]]:
    """Every record with its line number, each with all the columns asked for; at least one.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    delimiter = DELIMITERS[file.suffix.lower()]
    records = _json_records(file) if delimiter is None else _table_records(file, delimiter, columns)
    is_empty = True
    for line, record in records:
        is_empty = False
        missing = [column for column in columns if column not in record]
        if missing:
            raise InputError(f"{file}, line {line}: no column {missing[0]!r}; those present are {quoted(record)}.")
        yield line, record
    if is_empty:
        refuse_empty(file)


def text_value(value: object, column: str, where: str) -> str:
    """A text that is not blank, without the blanks around it.

    Raises:
        InputError: it is something else; `where` names the file and the line.
    """
    if not isinstance(value, str) or not value.strip():
        what = "empty text" if value is None or isinstance(value, str) else f"{type(value).__name__} instead of text"
        raise InputError(f"{where}: {what} in column {column!r}; remove the row or give it a text.")
    return value.strip()


def read_utf8(file: Path) -> str:
    """The whole file, a byte-order mark left out.

    Raises:
        InputError: it is not UTF-8.
    """
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text: {error.reason} at byte {error.start}.") from None


def refuse_empty(file: Path) -> NoReturn:
    raise InputError(f"The data file {file} is empty; it needs at least one row.")


def quoted(names: Iterable[object], limit: int = 20) -> str:
    """'a', 'b', ...; no more than `limit` of them."""
    shown = [repr(name) for name in names]
    return ", ".join(shown[:limit]) + (", ..." if len(shown) > limit else "")


def _table_records(file: Path, delimiter: str, columns: Sequence[str]) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    reader = csv.DictReader(io.StringIO(read_utf8(file), newline=""), delimiter=delimiter, strict=True)
    try:
        present = reader.fieldnames or refuse_empty(file)
        for column in columns:
            if column not in present:
                raise InputError(f"{file}: no column {column!r}; those present are {quoted(present)}.")
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


def _json_records(file: Path) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(read_utf8(file).split("\n"), 1):
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
