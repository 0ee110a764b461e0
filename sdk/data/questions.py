"""Questions about a context and the spans that answer them, from jsonl files, checked row by row; plain Python."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgefold.data.records import check_data_file, read_records, text_value
from edgefold.errors import InputError


@dataclass(frozen=True)
class Question:
    """One question; no answers where its context has none."""

    context: str
    question: str
    answers: tuple[str, ...]
    starts: tuple[int, ...]
    """Of each answer, the character of the context where it begins."""
    line: int


def read_questions(path: str | Path) -> list[Question]:
    """Read rows of the form of SQuAD (Rajpurkar et al., 2016; 2018 for questions without an answer).

    {"context": ..., "question": ..., "answers": {"text": [...], "answer_start": [...]}}

    Raises:
        InputError: naming the file and line of what is wrong; an answer must stand in the context where it says.
    """
    file = check_data_file(path, (".jsonl",))
    rows = []
    for line, record in read_records(file, ("context", "question", "answers")):
        where = f"{file}, line {line}"
        context = record["context"]
        text_value(context, "context", where)
        answers, starts = _answers(record["answers"], context, where)
        rows.append(Question(context, text_value(record["question"], "question", where), answers, starts, line))
    return rows


def _answers(given: object, context: str, where: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    if not isinstance(given, Mapping) or not all(isinstance(given.get(key), list) for key in ("text", "answer_start")):
        raise InputError(f'{where}: answers must be {{"text": [...], "answer_start": [...]}}; got {given!r:.80}.')
    texts, starts = given["text"], given["answer_start"]
    if len(texts) != len(starts):
        raise InputError(f"{where}: {len(texts)} answers and {len(starts)} places where they start; give one for each.")
    for text, start in zip(texts, starts, strict=True):
        _check_answer(text, start, context, where)
    return tuple(texts), tuple(starts)


def _check_answer(text: Any, start: Any, context: str, where: str) -> None:
    if not isinstance(text, str) or not text or not isinstance(start, int) or start < 0:
        raise InputError(f"{where}: the answer {text!r} at {start!r} is no text at a character of the context.")
    found = context[start : start + len(text)]
    if found != text:
        raise InputError(f"{where}: the answer {text!r} does not stand at character {start}; there stands {found!r}.")
