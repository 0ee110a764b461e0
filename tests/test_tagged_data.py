"""Tagged sentences: what is read, and that every bad row is refused with its line."""

from pathlib import Path

import pytest

from edgefold.data.tags import check_tags, find_tag_names, read_tagged
from edgefold.errors import InputError


def refusal(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines))
    with pytest.raises(InputError) as caught:
        read_tagged(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text('{"tokens": ["A", "joy"], "tags": ["DET", "NOUN"]}\n\n{"tokens": ["!"], "tags": ["."]}\n')
    rows = read_tagged(path)
    assert [(row.words, row.tags, row.line) for row in rows] == [
        (("A", "joy"), ("DET", "NOUN"), 1),
        (("!",), (".",), 3),
    ]
    assert find_tag_names(rows) == (".", "DET", "NOUN")
    with pytest.raises(InputError, match=r"data\.jsonl, line 3: unknown tag '\.'; known are 'DET', 'NOUN'"):
        check_tags(rows, ["DET", "NOUN"], path)


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = '{"tokens": ["a"], "tags": ["X"]}'
    assert "line 2: 2 words in 'tokens' and 1 tags in 'tags'" in refusal(
        path, good, '{"tokens": ["a", "b"], "tags": ["X"]}'
    )
    assert "line 1: an empty list in column 'tokens'" in refusal(path, '{"tokens": [], "tags": []}')
    assert "line 1: str in column 'tokens'" in refusal(path, '{"tokens": "a b", "tags": ["X"]}')
    assert "line 1: 3 at position 1 of column 'tags'" in refusal(path, '{"tokens": ["a", "b"], "tags": ["X", 3]}')
    assert "line 1: no column 'tags'; those present are 'tokens'" in refusal(path, '{"tokens": ["a"]}')
    (tmp_path / "data.csv").touch()
    with pytest.raises(InputError, match=r"of no known kind; give one of \.jsonl"):
        read_tagged(tmp_path / "data.csv")
