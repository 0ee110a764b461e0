"""Labelled text: three file kinds give the same rows, and every bad row is refused with its line."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.data.texts import Example, find_label_names, read_rows, read_splits, read_texts
from edgefold.errors import InputError

ROWS = [('A fine, "quoted" film.', "pos"), ("Line one\u2028still line one", "neg"), ("Zoë", "pos")]


def write_rows(path: Path, rows: list[tuple[str, str]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="," if path.suffix == ".csv" else "\t")
        writer.writerows([("text", "label"), *rows])
    return path


def refusal(path: Path, content: str | bytes, text: str = "text", label: str = "label") -> str:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read_rows(path, text=text, label=label)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_what_was_written_is_read(tmp_path: Path, suffix: str) -> None:
    rows = read_rows(write_rows(tmp_path / f"data{suffix}", ROWS), text="text", label="label")
    assert [(row.text, row.label) for row in rows] == ROWS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("rows") / "data.csv"
    write_rows(path, [(text, "0") for text in texts])
    assert [row.text for row in read_rows(path, text="text", label="label")] == [text.strip() for text in texts]


def test_splits_index_labels_by_the_training_data(tmp_path: Path) -> None:
    files = {split: write_rows(tmp_path / f"{split}.csv", ROWS) for split in ("train", "validation", "test")}
    splits = read_splits(files, text="text", label="label")
    assert splits.label_names == ("neg", "pos")
    assert splits.test[2] == Example("Zoë", 1)


def test_splits_keep_the_order_of_the_teachers_labels(tmp_path: Path) -> None:
    files = {split: write_rows(tmp_path / f"{split}.csv", ROWS) for split in ("train", "validation", "test")}
    assert read_splits(files, text="text", label="label", label_names=["pos", "neg"]).train[0].label == 0


def test_labels_may_be_given_by_the_indices_of_the_teachers(tmp_path: Path) -> None:
    rows = [(text, str(int(label == "pos"))) for text, label in ROWS]
    files = {split: write_rows(tmp_path / f"{split}.csv", rows) for split in ("train", "validation", "test")}
    named = {"text": "text", "label": "label"}
    assert [row.label for row in read_splits(files, **named, label_names=["neg", "pos"]).train] == [
        int(label == "pos") for _, label in ROWS
    ]
    with pytest.raises(InputError, match="unknown label '0'; the labels of the teacher are '1', '2'"):
        read_splits(files, **named, label_names=["1", "2"])  # these are names, not indices


def test_numeric_labels_are_sorted_as_numbers(tmp_path: Path) -> None:
    rows = read_rows(write_rows(tmp_path / "a.csv", [("a", "10"), ("b", "9"), ("c", "-1")]), text="text", label="label")
    assert find_label_names(rows) == ("-1", "9", "10")


def test_unknown_label_names_the_line_and_those_known(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.csv", ROWS)
    odd = write_rows(tmp_path / "odd.csv", [*ROWS, ("so so", "mixed")])
    with pytest.raises(InputError, match=r"odd\.csv, line 5: unknown label 'mixed'; .*training data are 'neg', 'pos'"):
        read_splits({"train": train, "validation": train, "test": odd}, text="text", label="label")


def test_one_label_is_no_task(tmp_path: Path) -> None:
    train = write_rows(tmp_path / "train.csv", [("a", "pos")])
    with pytest.raises(InputError, match="the one label 'pos'; a classifier needs two"):
        read_splits({"train": train, "validation": train, "test": train}, text="text", label="label")


def test_table_refusals(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    assert "no column 'text'; those present are 'review', 'label'" in refusal(path, "review,label\na,1\n")
    assert "is empty" in refusal(path, "")
    assert "is empty" in refusal(path, "text,label\n")
    assert "line 3: empty text in column 'text'" in refusal(path, "text,label\na,1\n  ,0\n")
    assert "line 2: '' is no label" in refusal(path, "text,label\na,\n")
    assert "line 3: 3 fields where the first line names 2" in refusal(path, "text,label\na,1\nwell, well,0\n")
    assert "line 2: 1 fields where the first line names 2" in refusal(path, "text,label\nalone\n")
    assert "after line 1: not a valid table" in refusal(path, 'text,label\n"never closed,1\n')
    assert "not UTF-8 text" in refusal(path, b"text,label\n\xff\xfe,1\n")


def test_json_refusals(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    good = '{"text": "a", "label": 1}\n'
    assert "line 3: not valid JSON" in refusal(path, good + "\n{oops\n")
    assert "line 2: list where an object" in refusal(path, good + "[1]\n")
    assert "line 2: no column 'label'; those present are 'text'" in refusal(path, good + '{"text": "b"}\n')
    assert "line 1: int instead of text in column 'text'" in refusal(path, '{"text": 3, "label": 1}')
    assert "line 1: 0.5 is no label" in refusal(path, '{"text": "a", "label": 0.5}')
    assert "is empty" in refusal(path, "\n\n")


def test_missing_file_and_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        read_rows(tmp_path / "none.csv", text="text", label="label")
    with pytest.raises(InputError, match="is a folder"):
        read_rows(tmp_path, text="text", label="label")
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(InputError, match=r"of no known kind; give one of \.csv, \.tsv, \.jsonl"):
        read_rows(tmp_path / "data.xlsx", text="text", label="label")


def test_texts_alone(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\n\n two \n")
    assert read_texts(tmp_path / "lines.txt") == ["one", "two"]
    assert read_texts(write_rows(tmp_path / "data.tsv", ROWS)) == [text for text, _ in ROWS]
    (tmp_path / "lines.txt").write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        read_texts(tmp_path / "lines.txt")


def test_a_field_may_be_as_long_as_a_document(tmp_path: Path) -> None:
    text = "word " * 40_000
    rows = read_rows(write_rows(tmp_path / "long.csv", [(text, "1"), ("short", "0")]), text="text", label="label")
    assert [row.text for row in rows] == [text.strip(), "short"]
