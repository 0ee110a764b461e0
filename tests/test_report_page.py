"""The report page stands alone, escapes what it shows, and says in its headline who is ahead and who is not."""

import math
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgefold.ratios import Ratio
from edgefold.reporting.page import make_headline, render_report
from edgefold.reporting.summaries import CurveData, DemoSummary, ModelResult

Make = Callable[..., Any]
VOID = ("meta",)


@pytest.fixture
def teacher(make_result: Make) -> list[ModelResult]:
    return [
        make_result("teacher fp32", 0.85, 1.0, 91, "teacher", "fp32"),
        make_result("teacher int8", 0.848, 1.7, 23, "teacher"),
    ]


@pytest.fixture
def student(make_result: Make) -> ModelResult:
    result: ModelResult = make_result("student int8", 0.84, 9.0, 5.8, "student")
    return result


def read(summary: DemoSummary, folder: Path) -> str:
    return render_report(summary, folder / "report.html").read_text(encoding="utf-8")


class Nesting(HTMLParser):
    """Refuses an end tag that does not end the innermost element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open += [] if tag in VOID else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_loads_nothing(make_summary: Make, teacher: list[ModelResult], student: ModelResult, tmp_path: Path) -> None:
    page = read(make_summary([*teacher, student]), tmp_path)
    assert not re.search(r"<script|<link|<img|<iframe|<object|@import|url\(|https?:|\bsrc=|\bhref=|\bon\w+=", page)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme:dark" in page


def test_its_elements_nest(
    make_summary: Make, teacher: list[ModelResult], student: ModelResult, tmp_path: Path
) -> None:
    nesting = Nesting()
    nesting.feed(read(make_summary([*teacher, student]), tmp_path))
    assert nesting.open == []


def test_every_text_is_escaped(make_summary: Make, make_result: Make, student: ModelResult, tmp_path: Path) -> None:
    evil = "<script>alert('&')</script>"
    summary = make_summary(
        [student, make_result(evil, 0.8, 2.0, 50)],
        width=evil,
        shape=evil,
        commands=(evil,),
        seconds={evil: 1.0},
        dominated={"student int8": evil},
        dimensions=({"name": evil, "kind": evil, "teacher_size": 2, "student_size": 1},),
        curves=(CurveData(name=evil, epochs=(1.0,), values=(0.5,)),),
    )
    page = read(summary, tmp_path)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 12
    assert "a.&lt;b&gt;.weight" in page


def test_nothing_that_is_no_number_is_shown(make_summary: Make, student: ModelResult, tmp_path: Path) -> None:
    curves = (
        CurveData(name="student loss", epochs=(1.0, 2.0, 3.0), values=(0.5, math.nan, 0.4)),
        CurveData(name="teacher loss", epochs=(1.0,), values=(math.inf,)),
        CurveData(name="student eval_accuracy", epochs=(), values=()),
    )
    page = read(make_summary([student], curves=curves), tmp_path)
    assert not re.search(r"\b(nan|NaN|inf|None)\b", page)


def test_figures_are_there_for_desk_and_phone(make_summary: Make, student: ModelResult, tmp_path: Path) -> None:
    curves = (CurveData(name="student eval_accuracy", epochs=(1.0,), values=(0.8,)),)
    page = read(make_summary([student], curves=curves), tmp_path)
    assert page.count("<svg") == page.count("</svg>") == 4
    assert "<ol><li>student int8</li></ol>" in page


def test_missed_gates_are_told(make_summary: Make, student: ModelResult, tmp_path: Path) -> None:
    page = read(make_summary([student]), tmp_path)
    assert page.count(">missed<") == 1
    assert page.count(">passed<") == 1


def test_dimensions_of_one_family_are_one_row(make_summary: Make, student: ModelResult, tmp_path: Path) -> None:
    families = [("hidden", 384, 128), ("ffn.0", 1536, 512), ("heads.0", 12, 4), ("ffn.1", 1536, 512), ("ffn.2", 9, 9)]
    dimensions = [{"name": n, "kind": "kind", "teacher_size": a, "student_size": b} for n, a, b in families]
    page = read(make_summary([student], dimensions=dimensions), tmp_path)
    assert re.findall(r">([\w.]+(?: to [\w.]+ \(\d+\))?)</td><td class=\"text\">kind<", page) == [
        "hidden",
        "ffn.0 to ffn.1 (2)",
        "heads.0",
        "ffn.2",
    ]


def test_wall_times_have_a_column_where_they_were_measured(
    make_summary: Make, student: ModelResult, tmp_path: Path
) -> None:
    assert "faster, wall" not in read(make_summary([student]), tmp_path)
    wall = Ratio(value=8.5, low=8.0, high=8.9, blocks=30, basis="wall")
    page = read(make_summary([student.model_copy(update={"wall_ratio": wall})]), tmp_path)
    assert "faster, wall" in page
    assert "8.00 to 8.90" in page


def test_a_lead_is_told(make_summary: Make, teacher: list[ModelResult], student: ModelResult) -> None:
    assert make_headline(make_summary([*teacher, student])) == (
        "The int8 student is 9.0x faster than the fp32 teacher at 98.8% of its accuracy, and 5.3x faster than the "
        "teacher in int8."
    )


def test_a_dominated_student_is_called_dominated(
    make_summary: Make, make_result: Make, teacher: list[ModelResult], student: ModelResult, tmp_path: Path
) -> None:
    summary = make_summary([*teacher, student, make_result("every second layer int8", 0.85, 9.5, 5.0)])
    assert make_headline(summary).endswith("98.8% of its accuracy, and is dominated by every second layer int8.")
    assert "dominated by every second layer int8</span>" in read(summary, tmp_path)


def test_a_lead_that_is_none_is_denied(make_summary: Make, make_result: Make, teacher: list[ModelResult]) -> None:
    student = make_result("student int8", 0.84, 1.71, 5.8, "student")
    headline = make_headline(make_summary([*teacher, student], speedup_int8=1.71))
    assert headline.endswith("but not clearly faster than the teacher in int8.")


def test_a_slower_student_is_called_slower(make_summary: Make, make_result: Make) -> None:
    summary = make_summary([make_result("student int8", 0.84, 0.5, 5.8, "student")], speedup_int8=0.5)
    assert make_headline(summary).startswith("The int8 student is 2.0x slower than the fp32 teacher")
