"""The page of several measurements stands alone, escapes what it shows, and tells machines apart."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from edgefold.device_states import DeviceState
from edgefold.reporting.benchmark_page import render_benchmarks
from edgefold.reporting.canvas import NARROW, WIDE, Canvas
from edgefold.reporting.comparisons import compare_reports, pair_up
from edgefold.reporting.latency_figure import latency_plot
from edgefold.reports import Report

Make = Callable[..., Report]


class Nesting(HTMLParser):
    """Refuses an end tag that does not end the innermost element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open += [] if tag == "meta" else [tag]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def files(make_report: Make, device_state: DeviceState) -> list[list[Report]]:
    there = device_state.model_copy(update={"processor": "Other <CPU>", "taken_at": "2025-02-02T00:00:00+00:00"})
    away: dict[str, Any] = {"address": "ssh://a@b", "before": there, "after": there, "model_sha256": "a"}
    return [
        [
            make_report([1e-3] * 9, list(range(9)), label="fast<b>", model_sha256="a"),
            make_report([5e-3] * 9, list(range(9)), label="slow", model_sha256="b", cpu_times_s=[1e-3] * 9),
        ],
        [make_report([0.3] * 700, label="away", **away)],
    ]


def read(files: list[list[Report]], folder: Path) -> str:
    reports = [report for file in files for report in file]
    comparisons = [compare_reports(*pair) for pair in pair_up(files)]
    return render_benchmarks(reports, comparisons, folder / "r.html").read_text(encoding="utf-8")


def test_it_loads_nothing_nests_and_escapes(files: list[list[Report]], tmp_path: Path) -> None:
    page = read(files, tmp_path)
    assert not re.search(r"<script|<link|<img|<iframe|<object|@import|url\(|https?:|\bsrc=|\bhref=|\bon\w+=", page)
    assert "default-src 'none'" in page
    nesting = Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert "fast<b>" not in page
    assert "Other &lt;CPU&gt; at ssh://a@b" in page
    assert not re.search(r"\b(nan|NaN|inf|None)\b", page)


def test_machines_and_models_are_counted(files: list[list[Report]], tmp_path: Path) -> None:
    page = read(files, tmp_path)
    assert "<h1>2 models on 2 machines, 3 measurements</h1>" in page
    assert page.count("<svg") == 2
    assert "1: here" in page
    assert "2: ssh://a@b" in page
    alone = read([files[1]], tmp_path)
    assert "<h1>1 model on 1 machine, 1 measurement</h1>" in alone
    assert "There is but one measurement." in alone


def test_what_was_measured_is_told_with_its_interval_and_remarks(files: list[list[Report]], tmp_path: Path) -> None:
    page = read(files, tmp_path)
    assert page.count(">contended<") == 1
    assert page.count(">paired<") == 1
    assert "300.000 to 300.000" in page  # the 99th percentile of 700 runs
    assert "5.00x (5.00 to 5.00" not in page  # slow in wall time only: the ratio is of CPU time
    assert "Speed of fast&lt;b&gt; against slow: not told from 1" in page


@pytest.mark.parametrize("canvas", [WIDE, NARROW])
def test_every_dot_and_line_stands_within_the_figure(files: list[list[Report]], canvas: Canvas) -> None:
    reports = [report for file in files for report in file]
    plot = latency_plot(reports, {report.label: index for index, report in enumerate(reports)}, canvas)
    dots = [(float(x), float(y)) for x, y in re.findall(r'cx="([\d.-]+)" cy="([\d.-]+)"', plot)]
    assert len(dots) == 3
    assert all(0 < x < canvas.width for x, _ in dots)
    assert [x for x, _ in dots] == sorted(x for x, _ in dots)  # 1, 5 and 300 ms
    assert len({y for _, y in dots}) == 3
    assert plot.count('class="tail') == 1  # one has runs enough for a 99th percentile
    assert "(logarithmic)" in plot


def test_times_that_lie_close_together_are_drawn_from_zero(make_report: Make) -> None:
    plot = latency_plot([make_report([1e-3], label="a"), make_report([2e-3], label="b")], {"a": 0, "b": 0})
    one, two = (float(x) for x in re.findall(r'cx="([\d.]+)"', plot))
    assert "(logarithmic)" not in plot
    assert two - 16 == pytest.approx(2 * (one - 16), abs=0.2)  # 16 pixels are left of 0


def test_names_too_long_for_a_phone_are_cut(make_report: Make) -> None:
    plot = latency_plot([make_report([1e-3], label="x" * 200)], {"x" * 200: 0}, NARROW)
    text = re.search(r'class="label"[^>]*>([^<]+)<', plot)
    assert text is not None
    assert text[1].startswith("xxx")
    assert text[1].endswith("... 1 ms")
    assert len(text[1]) < 55
