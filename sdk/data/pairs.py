"""Pairs of texts, a source and what it is to become, from csv, tsv or jsonl files, checked row by row; plain Python."""

from dataclasses import dataclass
from pathlib import Path

from edgefold.data.records import check_data_file, read_records, text_value


@dataclass(frozen=True)
class TextPair:
    """One source and its target."""

    source: str
    target: str


def read_pairs(path: str | Path, *, source: str = "source", target: str = "target") -> list[TextPair]:
    """Read every row.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path)
    return [
        TextPair(*(text_value(record[column], column, f"{file}, line {line}") for column in (source, target)))
        for line, record in read_records(file, (source, target))
    ]
