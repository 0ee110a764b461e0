"""Plain text from files and folders: which files, in which order, and what is refused."""

from pathlib import Path

import pytest

from edgefold.data.plain_text import LONGEST_LINE, find_texts
from edgefold.errors import InputError


def test_files_of_a_folder_in_order_and_their_lines(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name, content in (("b.txt", "three\n"), ("a.txt", "\ufeffone\r\ntwo"), ("inner/c.txt", "four"), ("d.md", "no")):
        (tmp_path / name).write_text(content, newline="")
    texts = find_texts(tmp_path)
    assert [file.name for file in texts.files] == ["a.txt", "b.txt", "c.txt"]
    assert list(texts.lines()) == ["one\r\n", "two", "three\n", "four"]
    assert list(texts.lines()) == list(texts.lines())
    assert list(find_texts(tmp_path / "b.txt").lines()) == ["three\n"]


def test_a_very_long_line_is_read_in_pieces(tmp_path: Path) -> None:
    content = "ab " * LONGEST_LINE + "\nend"
    (tmp_path / "a.txt").write_text(content)
    lines = list(find_texts(tmp_path / "a.txt").lines())
    assert "".join(lines) == content
    assert max(map(len, lines)) == LONGEST_LINE


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no \.txt file"):
        find_texts(tmp_path)
    (tmp_path / "blank.txt").write_text(" \n\n")
    with pytest.raises(InputError, match="holds no text"):
        find_texts(tmp_path / "blank.txt")
    (tmp_path / "data.md").write_text("a")
    with pytest.raises(InputError, match="of no known kind"):
        find_texts(tmp_path / "data.md")
    (tmp_path / "odd.txt").write_bytes(b"one\ntwo\n" + b"x" * 10000 + b"\n\xff\n")
    with pytest.raises(InputError, match=r"odd\.txt, after line \d: not UTF-8 text"):
        list(find_texts(tmp_path / "odd.txt").lines())
