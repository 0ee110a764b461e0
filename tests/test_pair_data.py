"""Pairs of texts: three file kinds give the same pairs, and bad rows are refused with their line."""

import json
from pathlib import Path

import pytest

from edgefold.data.pairs import TextPair, read_pairs
from edgefold.errors import InputError


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('source,target\n"A cat, a hat",Un chat\n')
    (tmp_path / "a.tsv").write_text("en\tfr\nA cat, a hat\tUn chat\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"source": "A cat, a hat", "target": "Un chat"}))
    expected = [TextPair("A cat, a hat", "Un chat")]
    assert read_pairs(tmp_path / "a.csv") == read_pairs(tmp_path / "a.jsonl") == expected
    assert read_pairs(tmp_path / "a.tsv", source="en", target="fr") == expected


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n{"source": "a", "target": " "}\n')
    with pytest.raises(InputError, match=r"a\.jsonl, line 2: empty text in column 'target'"):
        read_pairs(path)
    with pytest.raises(InputError, match=r"line 1: no column 'fr'; those present are 'source', 'target'"):
        read_pairs(path, target="fr")
