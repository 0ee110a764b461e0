"""Reports in files: every form that is written is read, labels are told apart, and what is no report is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgefold.errors import InputError
from edgefold.reporting.files import load_named_reports, load_reports
from edgefold.reports import Report

Make = Callable[..., Report]


def write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def as_json(*reports: Report) -> list[Any]:
    return [{**report.summary(), **report.model_dump(mode="json")} for report in reports]


def test_one_report_a_list_and_a_table_are_read_alike(make_report: Make, tmp_path: Path) -> None:
    reports = [make_report(label="a"), make_report(label="b")]
    forms = (
        {"reports": as_json(*reports), "ratio": {"value": 2.0}},
        {report.label: document for report, document in zip(reports, as_json(*reports), strict=True)},
    )
    for form in forms:
        assert load_reports(write(tmp_path / "r.json", form)) == reports
    assert load_reports(write(tmp_path / "r.json", as_json(reports[0])[0])) == reports[:1]


def labels(*paths: Path) -> list[str]:
    return [report.label for file in load_named_reports(list(paths)) for report in file]


def test_labels_that_occur_once_stay(make_report: Make, tmp_path: Path) -> None:
    one = write(tmp_path / "one.json", as_json(make_report(label="a"))[0])
    two = write(tmp_path / "two.json", as_json(make_report(label="b"))[0])
    assert labels(one, two) == ["a", "b"]


def test_labels_of_several_files_name_the_file(make_report: Make, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    document = {"reports": as_json(make_report(label="a"), make_report(label="b"))}
    paths = [write(tmp_path / name, document) for name in ("one.json", "x/one.json")]
    assert labels(*paths) == ["a, one (1)", "b, one (1)", "a, one (2)", "b, one (2)"]


def test_a_label_that_stands_twice_in_a_file_names_the_batch_or_the_place(make_report: Make, tmp_path: Path) -> None:
    batches = as_json(make_report(label="a", batch_size=1), make_report(label="a", batch_size=8))
    assert labels(write(tmp_path / "r.json", {"reports": batches})) == ["a, batch 1", "a, batch 8"]
    twins = as_json(make_report(label="a", load_s=1.0), make_report(label="a", load_s=2.0))
    assert labels(write(tmp_path / "r.json", {"reports": twins})) == ["a (1)", "a (2)"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "holds no report"),
        ("{}", "holds no report"),
        ('{"reports": 3}', "holds no report"),
        ('{"reports": [{"label": "a"}]}', r"r.json, report 1, is not a report of edgefold: runtime: Field required"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_reports(tmp_path / "r.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no report .*nowhere\.json"):
        load_reports(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load_reports(tmp_path)
