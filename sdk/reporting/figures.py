"""The report's figures: accuracy against latency, and training curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

from edgefold.reporting.canvas import (
    WIDE,
    Axis,
    Canvas,
    draw_frame,
    draw_line,
    draw_svg,
    draw_x_tick,
    draw_y_tick,
    find_log_ticks,
)
from edgefold.reporting.labels import CHARACTER_WIDTH, LABEL_HEIGHT, Box, place_labels, shorten
from edgefold.reporting.summaries import CurveData, ModelResult

COLOURS = 6
LEADER_FROM = 13
"""Distance in pixels from which a line leads from a point to its label."""
LEGEND_ROW = 22


@dataclass(frozen=True)
class _Dot:
    """A model's place on the canvas; top and bottom are those of its error bar."""

    result: ModelResult
    name: str
    x: float
    y: float
    top: float
    bottom: float


@dataclass(frozen=True)
class _Scene:
    """A canvas on which every label has its place."""

    canvas: Canvas
    x_axis: Axis
    y_axis: Axis
    dots: tuple[_Dot, ...]
    labels: tuple[Box, ...]


def trade_off_plot(results: Sequence[ModelResult], rows: int, canvas: Canvas = WIDE, *, numbered: bool = False) -> str:
    """Accuracy against latency (logarithmic), with standard errors, labels that do not overlap, and the Pareto front.

    Args:
        rows: of the test data.
        numbered: label the models 1, 2, 3, ... in their order, for a list of names beside the figure.
    """
    names = [str(index) if numbered else shorten(r.name, canvas) for index, r in enumerate(results, 1)]
    scene = _arrange(results, rows, names, canvas)
    return draw_svg(scene.canvas, [*_ground(scene), *_models(scene)], "Accuracy against latency of every model")


def curves_plot(curves: Sequence[CurveData], unit: str, canvas: Canvas = WIDE) -> str:
    """Lines over epochs, with a legend above; what was no number leaves a gap."""
    values = [value for curve in curves for value in curve.values if value is not None] or [0.0, 1.0]
    margin = 0.05 * ((max(values) - min(values)) or 1.0)
    names = [curve.name.replace("_", " ") for curve in curves]
    columns = _count_columns(names, canvas)
    top = canvas.top + LEGEND_ROW * math.ceil(len(curves) / columns)
    x_axis = Axis(0, max((e for curve in curves for e in curve.epochs), default=1.0), canvas.left, canvas.x_end)
    y_axis = Axis(min(values) - margin, max(values) + margin, canvas.y_end, top)
    parts = [draw_frame(canvas, "epoch", unit, top)]
    parts += [draw_x_tick(canvas, x_axis.place(tick), f"{tick:g}") for tick in x_axis.ticks]
    parts += [draw_y_tick(canvas, y_axis.place(tick), f"{tick:.{y_axis.decimals}f}") for tick in y_axis.ticks]
    for index, (curve, name, colour) in enumerate(zip(curves, names, _colours(curves), strict=True)):
        column_width = (canvas.width - canvas.left) / columns
        parts += _legend(
            name, colour, canvas.left + index % columns * column_width, canvas.top + LEGEND_ROW * (index // columns)
        )
        parts += _curve(curve, colour, x_axis, y_axis)
    return draw_svg(canvas, parts, f"Training: {unit} over epochs")


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats in cost and equals or beats in gain."""
    pairs = list(zip(costs, gains, strict=True))
    return [
        i
        for i, (cost, gain) in enumerate(pairs)
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs)
    ]


def _arrange(results: Sequence[ModelResult], rows: int, names: Sequence[str], canvas: Canvas) -> _Scene:
    """The canvas, made higher until every label has a place of its own."""
    while True:
        x_axis, y_axis = _axes(results, rows, canvas)
        dots = [_place(r, name, rows, x_axis, y_axis) for r, name in zip(results, names, strict=True)]
        bars = [Box(dot.x - 3, dot.top, 6, dot.bottom - dot.top) for dot in dots]
        labels = place_labels([(dot.x, dot.y) for dot in dots], names, canvas, bars)
        if labels is not None:
            return _Scene(canvas, x_axis, y_axis, tuple(dots), tuple(labels))
        canvas = replace(canvas, height=canvas.height + 4 * LABEL_HEIGHT)


def _axes(results: Sequence[ModelResult], rows: int, canvas: Canvas) -> tuple[Axis, Axis]:
    milliseconds = [result.p50_s * 1e3 for result in results]
    low = min(result.accuracy - result.standard_error(rows) for result in results)
    high = max(result.accuracy + result.standard_error(rows) for result in results)
    margin = 0.12 * ((high - low) or 0.01)
    return (
        Axis(math.log10(min(milliseconds) / 1.25), math.log10(max(milliseconds) * 1.6), canvas.left, canvas.x_end),
        Axis(low - margin, high + margin, canvas.y_end, canvas.top),
    )


def _place(result: ModelResult, name: str, rows: int, x_axis: Axis, y_axis: Axis) -> _Dot:
    error = result.standard_error(rows)
    return _Dot(
        result,
        name,
        x_axis.place(math.log10(result.p50_s * 1e3)),
        y_axis.place(result.accuracy),
        y_axis.place(result.accuracy + error),
        y_axis.place(result.accuracy - error),
    )


def _ground(scene: _Scene) -> list[str]:
    canvas, x_axis, y_axis = scene.canvas, scene.x_axis, scene.y_axis
    places = [(tick, x_axis.place(math.log10(tick))) for tick in find_log_ticks(x_axis)]
    decimals = max(0, y_axis.decimals - 2)
    return [
        draw_frame(canvas, "latency p50, ms (logarithmic)", "test accuracy", canvas.top),
        *(draw_x_tick(canvas, place, f"{tick:g}") for tick, place in places),
        *(draw_y_tick(canvas, y_axis.place(tick), f"{tick:.{decimals}%}") for tick in y_axis.ticks),
    ]


def _models(scene: _Scene) -> list[str]:
    front = pareto_front([dot.result.p50_s for dot in scene.dots], [dot.result.accuracy for dot in scene.dots])
    stairs = _steps(sorted((scene.dots[i].x, scene.dots[i].y) for i in front))
    pairs = list(zip(scene.dots, scene.labels, strict=True))
    return [
        draw_line("front", stairs),
        *(_leader(dot, box) for dot, box in pairs if box.distance(dot.x, dot.y) > LEADER_FROM),
        *(_marker(dot) for dot in scene.dots),
        *(
            f'<text class="label" x="{box.x:.1f}" y="{box.y + box.height - 4:.1f}">{escape(dot.name)}</text>'
            for dot, box in pairs
        ),
    ]


def _steps(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The staircase through the front."""
    corners = [(right[0], left[1]) for left, right in pairwise(front)]
    return [place for pair in zip(front, corners, strict=False) for place in pair] + list(front[-1:])


def _leader(dot: _Dot, box: Box) -> str:
    x, y = box.nearest(dot.x, dot.y)
    return f'<line class="leader" x1="{dot.x:.1f}" y1="{dot.y:.1f}" x2="{x:.1f}" y2="{y:.1f}"/>'


def _marker(dot: _Dot) -> str:
    return (
        f'<line class="error" x1="{dot.x:.1f}" y1="{dot.top:.1f}" x2="{dot.x:.1f}" y2="{dot.bottom:.1f}"/>'
        f'<circle class="{dot.result.role}" cx="{dot.x:.1f}" cy="{dot.y:.1f}" r="5"/>'
    )


def _count_columns(names: Sequence[str], canvas: Canvas) -> int:
    """Of a legend whose longest name must fit."""
    needed = 30 + CHARACTER_WIDTH * max(map(len, names), default=1)
    return max(1, int((canvas.width - canvas.left) / needed))


def _colours(curves: Sequence[CurveData]) -> list[str]:
    """The teacher's own for its curves, one after another for all else."""
    others = [curve.name for curve in curves if not curve.name.startswith("teacher")]
    return ["teacher" if c.name not in others else f"c{others.index(c.name) % COLOURS}" for c in curves]


def _legend(name: str, colour: str, x: float, y: float) -> list[str]:
    return [
        draw_line(f"curve {colour}", [(x, y - 4), (x + 20, y - 4)]),
        f'<text class="label" x="{x + 26:.1f}" y="{y}">{escape(name)}</text>',
    ]


def _curve(curve: CurveData, colour: str, x_axis: Axis, y_axis: Axis) -> list[str]:
    """One line for each run of numbers; where there are few, a dot on each as well."""
    runs: list[list[tuple[float, float]]] = [[]]
    for epoch, value in zip(curve.epochs, curve.values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((x_axis.place(epoch), y_axis.place(value)))
    lines = [draw_line(f"curve {colour}", run) for run in runs if len(run) > 1]
    if len(curve.values) > 12:
        return lines
    return lines + [f'<circle class="dot {colour}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for run in runs for x, y in run]
