"""Questions and their answers: what is read, and that every bad row is refused with its line."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgefold.data.questions import read_questions
from edgefold.errors import InputError

GOOD: dict[str, Any] = {
    "context": "A joy.",
    "question": "What?",
    "answers": {"text": ["joy"], "answer_start": [2]},
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    rows = [GOOD, {**GOOD, "answers": {"text": [], "answer_start": []}}]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = read_questions(path)
    assert (first.context, first.question, first.answers, first.starts, first.line) == (
        "A joy.",
        "What?",
        ("joy",),
        (2,),
        1,
    )
    assert second.answers == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"answers": {"text": ["joy"], "answer_start": [1]}},
            "'joy' does not stand at character 1; there stands ' jo'",
        ),
        ({"answers": {"text": ["joy"], "answer_start": []}}, "1 answers and 0 places"),
        ({"answers": {"text": [""], "answer_start": [0]}}, "the answer '' at 0 is no text at a character"),
        ({"answers": ["joy"]}, 'answers must be {"text": [...], "answer_start": [...]}; got ['),
        ({"context": " "}, "empty text in column 'context'"),
        ({"question": 3}, "int instead of text in column 'question'"),
    ],
)
def test_refusals(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(InputError) as caught:
        read_questions(path)
    assert f"{path}, line 2: " in str(caught.value)
    assert expected in str(caught.value)
