"""Figures place every label where it overlaps nothing, whatever the models; the Pareto front is by definition."""

import re
from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgefold.reporting.canvas import NARROW, WIDE, Axis, Canvas
from edgefold.reporting.figures import curves_plot, pareto_front, trade_off_plot
from edgefold.reporting.labels import CHARACTER_WIDTH, LABEL_HEIGHT, Box, place_labels, shorten
from edgefold.reporting.summaries import CurveData

Make = Callable[..., Any]
LABEL = re.compile(r'<text class="label" x="([\d.]+)" y="([\d.]+)">([^<]*)</text>')
DOT = re.compile(r'<circle class="\w+" cx="([\d.]+)" cy="([\d.]+)"')
HEIGHT = re.compile(r'viewBox="0 0 \d+ (\d+)"')


def label_boxes(svg: str) -> list[Box]:
    """The areas of a drawn figure's labels, from their text alone."""
    return [
        Box(float(x), float(y) + 4 - LABEL_HEIGHT, CHARACTER_WIDTH * len(text), LABEL_HEIGHT)
        for x, y, text in LABEL.findall(svg)
    ]


def assert_readable(svg: str, canvas: Canvas, count: int) -> None:
    boxes = label_boxes(svg)
    dots = [Box(float(x) - 5, float(y) - 5, 10, 10) for x, y in DOT.findall(svg)]
    assert len(boxes) == len(dots) == count
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert not any(box.overlaps(dot) for box in boxes for dot in dots)
    height = int(HEIGHT.findall(svg)[0])
    assert all(box.x >= 0 and box.x + box.width <= canvas.width and 0 <= box.y <= height for box in boxes)


models = st.tuples(st.floats(0.5, 0.99), st.floats(0.5, 40), st.text("model ", min_size=1, max_size=40))


@settings(max_examples=25, deadline=None)
@given(st.lists(models, min_size=1, max_size=14), st.sampled_from([WIDE, NARROW]))
def test_no_label_overlaps_anything(make_result: Make, drawn: list[tuple[float, float, str]], canvas: Canvas) -> None:
    results = [make_result(name, accuracy, speed, 1.0) for accuracy, speed, name in drawn]
    assert_readable(trade_off_plot(results, 2000, canvas), canvas, len(results))
    assert_readable(trade_off_plot(results, 2000, canvas, numbered=True), canvas, len(results))


def test_models_on_one_spot_are_still_told_apart(make_result: Make) -> None:
    results = [make_result(f"a model with a long name, number {index}", 0.8, 2.0, 1.0) for index in range(20)]
    svg = trade_off_plot(results, 2000, NARROW)
    assert_readable(svg, NARROW, 20)
    assert int(HEIGHT.findall(svg)[0]) > NARROW.height  # it grew


def test_a_canvas_too_small_is_told() -> None:
    tiny = Canvas(200, 90)
    assert place_labels([(100.0, 40.0)] * 9, ["name"] * 9, tiny) is None


def test_a_label_does_not_stand_nearest_to_another_point() -> None:
    points = [(200.0, 200.0), (240.0, 200.0)]
    boxes = place_labels(points, ["first", "second"], WIDE)
    assert boxes is not None
    assert all(
        box.distance(*own) < box.distance(*other) for box, own, other in zip(boxes, points, points[::-1], strict=True)
    )


def test_a_name_wider_than_the_canvas_is_cut() -> None:
    assert shorten("short", NARROW) == "short"
    cut = shorten("x" * 100, NARROW)
    assert cut.endswith("x...")
    assert CHARACTER_WIDTH * len(cut) <= NARROW.x_end - NARROW.left


def test_names_are_escaped(make_result: Make) -> None:
    svg = trade_off_plot([make_result("<b>", 0.8, 2.0, 1.0)], 2000)
    assert "&lt;b&gt;" in svg
    assert "<b>" not in svg


@pytest.mark.parametrize("canvas", [WIDE, NARROW])
def test_a_legend_does_not_overlap_itself(canvas: Canvas) -> None:
    curves = [CurveData(name=f"student loss_term_{i}", epochs=(1.0, 2.0), values=(1.0, 0.5)) for i in range(9)]
    boxes = label_boxes(curves_plot(curves, "loss", canvas))
    assert len(boxes) == 9
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))
    assert all(box.x + box.width <= canvas.width for box in boxes)


def test_a_gap_in_a_curve_is_a_gap() -> None:
    curve = CurveData(name="loss", epochs=(1, 2, 3, 4, 5), values=(1.0, 0.9, float("nan"), 0.5, 0.4))
    svg = curves_plot([curve], "loss")
    assert len(re.findall(r'<polyline class="curve', svg)) == 1 + 2  # the legend's, and two runs


@given(st.floats(-1e3, 1e3), st.floats(1e-6, 1e3))
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    axis = Axis(low, low + span, 0, 100)
    assert 2 <= len(axis.ticks) <= 8
    assert all(axis.low - 1e-9 <= tick <= axis.high + 1e-9 for tick in axis.ticks)
    texts = [f"{tick:.{axis.decimals}f}" for tick in axis.ticks]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    ("costs", "gains", "front"),
    [([1, 2, 3], [1, 2, 3], [0, 1, 2]), ([1, 2, 3], [3, 2, 1], [0]), ([1, 1], [1, 2], [1]), ([1, 1], [1, 1], [0, 1])],
)
def test_pareto_front(costs: list[float], gains: list[float], front: list[int]) -> None:
    assert pareto_front(costs, gains) == front
