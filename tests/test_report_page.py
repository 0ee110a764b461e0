"""The report page stands alone, escapes what it shows, says who is dominated, and its labels do not overlap."""

import re
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefold.report_figures import pareto_front, place_labels
from edgefold.report_page import make_headline, render_report
from edgefold.reports import Ratio
from edgefold.runtimes import read_device_state
from edgefold.summaries import CurveData, DemoSummary, GateResult, LayerShape, ModelResult, Role, find_dominated


def result(name: str, role: Role, precision: str, accuracy: float, speed: float, megabytes: float) -> ModelResult:
    ratio = Ratio(value=speed, low=speed * 0.99, high=speed * 1.01, blocks=30, basis="cpu")
    return ModelResult(
        name=name,
        role=role,
        precision=precision,
        parameters=1000,
        encoder_parameters=500,
        size_bytes=int(megabytes * 1e6),
        accuracy=accuracy,
        p50_s=0.04 / speed,
        cpu_p50_s=0.04 / speed,
        ratio=ratio,
    )


def make_summary(results: list[ModelResult], int8_accuracy: float = 0.84) -> DemoSummary:
    state = read_device_state()
    return DemoSummary(
        teacher_accuracy=0.85,
        student_accuracy=0.845,
        int8_accuracy=int8_accuracy,
        share_of_teacher=0.845 / 0.85,
        speedup_fp32=6.0,
        speedup_int8=9.0,
        teacher_int8_speedup=1.7,
        teacher_parameters=22_000_000,
        student_parameters=5_000_000,
        teacher_encoder_parameters=10_600_000,
        student_encoder_parameters=1_200_000,
        seed=0,
        width="third",
        quick=False,
        test_rows=2000,
        threads_measured=1,
        shape="batch 1, 128 tokens",
        seconds={"teacher": 200.0},
        results=tuple(results),
        dominated=find_dominated(results),
        curves=(CurveData(name="student eval_accuracy", epochs=(1.0,), values=(0.8,)),),
        dimensions=({"name": "hidden", "kind": "linear", "teacher_size": 384, "student_size": 128},),
        layers=(LayerShape(parameter="a.<b>.weight", teacher=(4, 4), student=(2, 2)),),
        gates=(GateResult(name="fold", value=0.0, limit=1e-5), GateResult(name="int8", value=0.1, limit=0.015)),
        device_before=state,
        device_after=state,
        commands=("edgefold demo",),
    )


BASE = result("teacher fp32", "teacher", "fp32", 0.85, 1.0, 91)
INT8 = result("student int8", "student", "int8", 0.84, 9.0, 5.8)


def test_the_page_loads_nothing_and_escapes_everything(tmp_path: Path) -> None:
    summary = make_summary([BASE, INT8, result("<script>alert(1)</script>", "rival", "fp32", 0.8, 2.0, 50)])
    page = render_report(summary, tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|https?://", page)
    assert "&lt;script&gt;" in page
    assert "a.&lt;b&gt;.weight" in page
    assert not re.search(r"\bnan\b|\binf\b", page, re.IGNORECASE)
    assert page.count("<svg") == page.count("</svg>") == 2
    assert "prefers-color-scheme:dark" in page
    assert page.count(">missed<") == 1


def test_a_dominated_student_is_called_dominated(tmp_path: Path) -> None:
    rival = result("every second layer int8", "rival", "int8", 0.85, 9.5, 5.0)
    summary = make_summary([BASE, INT8, rival])
    assert make_headline(summary).endswith("and is dominated by every second layer int8.")
    page = render_report(summary, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "dominated by every second layer int8</span>" in page
    assert "and 5.3x faster than the teacher in int8" in make_headline(make_summary([BASE, INT8]))


def test_domination_is_by_definition() -> None:
    equal = result("equal", "rival", "int8", 0.84, 9.0, 5.8)
    assert find_dominated([INT8, equal]) == {}
    faster = result("faster", "rival", "int8", 0.84, 9.1, 5.8)
    assert find_dominated([INT8, faster]) == {"student int8": "faster"}
    larger = result("larger", "rival", "int8", 0.9, 9.1, 6.0)
    assert find_dominated([INT8, larger]) == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(70, 700), st.floats(30, 340)), min_size=2, max_size=9))
def test_labels_do_not_overlap(points: list[tuple[float, float]]) -> None:
    boxes = place_labels(points, [f"a model of number {i}" for i in range(len(points))])
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@pytest.mark.parametrize(
    ("costs", "gains", "front"),
    [([1, 2, 3], [1, 2, 3], [0, 1, 2]), ([1, 2, 3], [3, 2, 1], [0]), ([1, 1], [1, 2], [1]), ([1, 1], [1, 1], [0, 1])],
)
def test_pareto_front(costs: list[float], gains: list[float], front: list[int]) -> None:
    assert pareto_front(costs, gains) == front


def test_the_summary_survives_json(tmp_path: Path) -> None:
    summary = make_summary([BASE, INT8])
    summary.write(tmp_path / "summary.json")
    assert DemoSummary.model_validate_json((tmp_path / "summary.json").read_text()) == summary
