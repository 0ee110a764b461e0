"""Choices by ids: what is read, and that every bad row is refused with its line."""

from pathlib import Path

import pytest

from edgefold.data.choices import check_choices, find_choice_names, read_choices
from edgefold.errors import InputError


def refusal(path: Path, content: str) -> str:
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_choices(path, columns=("user", "item"), label="label")
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("label,item,user\n10,3,0\n9,1,12\n")
    (tmp_path / "a.jsonl").write_text('{"user": 0, "item": 3, "label": 10}\n{"user": 12, "item": 1, "label": 9}')
    rows = read_choices(tmp_path / "a.csv", columns=("user", "item"), label="label")
    assert [row.ids for row in rows] == [(0, 3), (12, 1)]
    assert [(row.ids, row.label) for row in rows] == [
        (row.ids, row.label) for row in read_choices(tmp_path / "a.jsonl", columns=("user", "item"), label="label")
    ]
    assert find_choice_names(rows) == ("9", "10")
    with pytest.raises(InputError, match=r"a\.csv, line 3: unknown label '9'; known are '10'"):
        check_choices(rows, ["10"], tmp_path / "a.csv")


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert "line 2: '-1' in column 'item' is no id" in refusal(path, "user,item,label\n1,-1,0\n")
    assert "line 3: 'b' in column 'user' is no id" in refusal(path, "user,item,label\n1,1,0\nb,1,0\n")
    assert "no column 'item'; those present are 'user', 'label'" in refusal(path, "user,label\n1,0\n")
    json = tmp_path / "a.jsonl"
    assert "line 1: 1.5 in column 'user' is no id" in refusal(json, '{"user": 1.5, "item": 1, "label": 0}')
    assert "line 1: True in column 'item' is no id" in refusal(json, '{"user": 1, "item": true, "label": 0}')
