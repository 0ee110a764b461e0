"""Sentences of words with a tag each, from jsonl files, checked row by row; plain Python, no framework."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefold.data.records import check_data_file, quoted, read_records
from edgefold.errors import InputError


@dataclass(frozen=True)
class TaggedWords:
    """One sentence: its words, and a tag for each."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


def read_tagged(path: str | Path, *, tokens: str = "tokens", tags: str = "tags") -> list[TaggedWords]:
    """Read every row of a jsonl file such as {"tokens": ["A", "joy"], "tags": ["DET", "NOUN"]}.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    file = check_data_file(path, (".jsonl",))
    rows = []
    for line, record in read_records(file, (tokens, tags)):
        where = f"{file}, line {line}"
        words = _texts(record, tokens, where)
        found = _texts(record, tags, where)
        if len(words) != len(found):
            raise InputError(
                f"{where}: {len(words)} words in {tokens!r} and {len(found)} tags in {tags!r}; give each word one tag."
            )
        rows.append(TaggedWords(words, found, line))
    return rows


def find_tag_names(rows: Sequence[TaggedWords]) -> tuple[str, ...]:
    """The distinct tags, sorted."""
    return tuple(sorted({tag for row in rows for tag in row.tags}))


def check_tags(rows: Sequence[TaggedWords], names: Sequence[str], path: str | Path) -> None:
    """Refuse tags that a model does not know.

    Raises:
        InputError: naming the file and the line.
    """
    known = set(names)
    for row in rows:
        unknown = next((tag for tag in row.tags if tag not in known), None)
        if unknown is not None:
            raise InputError(f"{path}, line {row.line}: unknown tag {unknown!r}; known are {quoted(names)}.")


def _texts(record: Mapping[str, Any], column: str, where: str) -> tuple[str, ...]:
    values = record[column]
    if not isinstance(values, list) or not values:
        what = "an empty list" if values == [] else type(values).__name__
        raise InputError(f"{where}: {what} in column {column!r}; it must be a list of texts, at least one.")
    for position, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: {value!r} at position {position} of column {column!r} is no text.")
    return tuple(values)
