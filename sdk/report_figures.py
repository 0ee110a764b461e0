"""The report's figures as SVG that takes its colours from the page, so they read well in light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from edgefold.summaries import CurveData, ModelResult

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 48
LABEL_HEIGHT, CHARACTER_WIDTH = 15, 6.9
"""Of a 12-pixel label; characters are counted at the width of a wide letter."""


MARKED_POINTS = 12
"""Curves with no more points show them, so that a curve of one point is seen."""


@dataclass(frozen=True)
class Box:
    """Where a label stands."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.x < other.x + other.width
            and other.x < self.x + self.width
            and self.y < other.y + other.height
            and other.y < self.y + self.height
        )


def trade_off_plot(results: Sequence[ModelResult], rows: int) -> str:
    """Accuracy against latency (logarithmic), with standard errors, labels apart, and the Pareto front."""
    xs = [result.p50_s * 1e3 for result in results]
    errors = [result.standard_error(rows) for result in results]
    low = min(r.accuracy - e for r, e in zip(results, errors, strict=True))
    high = max(r.accuracy + e for r, e in zip(results, errors, strict=True))
    x_axis = _log_axis(min(xs) / 1.25, max(xs) * 1.6)
    y_axis = _Axis(low - 0.1 * (high - low), high + 0.1 * (high - low), HEIGHT - BOTTOM, TOP)
    points = [(x_axis.place(math.log10(x)), y_axis.place(r.accuracy)) for x, r in zip(xs, results, strict=True)]
    parts = [_frame("latency p50, ms (logarithmic)", "test accuracy")]
    parts += [_x_tick(x_axis.place(math.log10(tick)), f"{tick:g}") for tick in _log_ticks(x_axis)]
    parts += [_y_tick(y_axis.place(tick), f"{tick:.1%}") for tick in _linear_ticks(y_axis)]
    front = sorted(points[i] for i in pareto_front(xs, [r.accuracy for r in results]))
    parts.append(f'<polyline class="front" points="{_points(_steps(front))}"/>')
    for (x, y), result, error in zip(points, results, errors, strict=True):
        top, bottom = y_axis.place(result.accuracy + error), y_axis.place(result.accuracy - error)
        parts.append(f'<line class="error" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<circle class="{result.role}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
    bars = [
        Box(x - 2, y_axis.place(r.accuracy + e), 4, y_axis.place(r.accuracy - e) - y_axis.place(r.accuracy + e))
        for (x, _), r, e in zip(points, results, errors, strict=True)
    ]
    boxes = place_labels(points, [result.name for result in results], bars)
    for box, (x, y), result in zip(boxes, points, results, strict=True):
        anchor_y = box.y + box.height - 4
        middle = box.x + box.width / 2
        if abs(middle - x) > box.width / 2 + 12 or abs(anchor_y - y) > 18:
            parts.append(
                f'<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{min(max(x, box.x), box.x + box.width):.1f}" '
                f'y2="{box.y + box.height / 2:.1f}"/>'
            )
        parts.append(f'<text class="label" x="{box.x:.1f}" y="{anchor_y:.1f}">{escape(result.name)}</text>')
    return _svg(parts, "Accuracy against latency of every model")


def curves_plot(curves: Sequence[CurveData], unit: str) -> str:
    """Lines over epochs, with a legend above."""
    epochs = [epoch for curve in curves for epoch in curve.epochs]
    values = [value for curve in curves for value in curve.values]
    span = (max(values) - min(values)) or 1.0
    x_axis = _Axis(0, max(epochs), LEFT, WIDTH - RIGHT)
    y_axis = _Axis(
        min(values) - 0.05 * span, max(values) + 0.05 * span, HEIGHT - BOTTOM, TOP + 22 * math.ceil(len(curves) / 3)
    )
    parts = [_frame("epoch", unit, y_axis.end)]
    parts += [_x_tick(x_axis.place(tick), f"{tick:g}") for tick in _linear_ticks(x_axis)]
    parts += [_y_tick(y_axis.place(tick), f"{tick:g}") for tick in _linear_ticks(y_axis)]
    for index, curve in enumerate(curves):
        places = [(x_axis.place(e), y_axis.place(v)) for e, v in zip(curve.epochs, curve.values, strict=True)]
        parts.append(f'<polyline class="curve c{index % 6}" points="{_points(places)}"/>')
        if len(places) <= MARKED_POINTS:
            parts += [f'<circle class="dot c{index % 6}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places]
        x, y = LEFT + (index % 3) * 232, TOP + 22 * (index // 3)
        parts.append(f'<line class="curve c{index % 6}" x1="{x}" y1="{y - 4}" x2="{x + 20}" y2="{y - 4}"/>')
        parts.append(f'<text class="label" x="{x + 26}" y="{y}">{escape(curve.name.replace("_", " "))}</text>')
    return _svg(parts, f"Training: {unit} over epochs")


def pareto_front(costs: Sequence[float], gains: Sequence[float]) -> list[int]:
    """Indices of the points that no other beats in cost and equals or beats in gain."""
    pairs = list(zip(costs, gains, strict=True))
    return [
        i
        for i, (cost, gain) in enumerate(pairs)
        if not any(c <= cost and g >= gain and (c, g) != (cost, gain) for c, g in pairs)
    ]


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], obstacles: Sequence[Box] = ()
) -> list[Box]:
    """A box for each label near its point; none overlaps another, a point, an obstacle or the edge."""
    dots = [*obstacles, *(Box(x - 6, y - 6, 12, 12) for x, y in points)]
    placed: list[Box] = []
    for (x, y), name in zip(points, names, strict=True):
        width = CHARACTER_WIDTH * len(name)
        candidates = [Box(*corner, width, LABEL_HEIGHT) for corner in _corners(x, y, width)]
        free = [box for box in candidates if _is_inside(box) and not any(box.overlaps(o) for o in (*placed, *dots))]
        placed.append(free[0] if free else candidates[0])
    return placed


def _corners(x: float, y: float, width: float) -> list[tuple[float, float]]:
    """Places around a point, the nearest first."""
    half = LABEL_HEIGHT / 2
    offsets = [k * (LABEL_HEIGHT + 2) * sign for k in range(14) for sign in (1, -1)]
    sides = [x + 9, x - width - 9, x - width / 2]
    spots = [(side, y - half + offset) for offset in offsets for side in sides]
    return sorted(spots, key=lambda spot: abs(spot[1] + half - y) + 0.3 * abs(spot[0] + width / 2 - x))


def _is_inside(box: Box) -> bool:
    return (
        box.x >= LEFT and box.x + box.width <= WIDTH - 4 and box.y >= TOP - 8 and box.y + box.height <= HEIGHT - BOTTOM
    )


@dataclass(frozen=True)
class _Axis:
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / ((self.high - self.low) or 1.0) * (self.end - self.start)


def _log_axis(low: float, high: float) -> _Axis:
    return _Axis(math.log10(low), math.log10(high), LEFT, WIDTH - RIGHT)


def _log_ticks(axis: _Axis) -> list[float]:
    ticks = [base * 10.0**power for power in range(-4, 6) for base in (1, 2, 5)]
    return [tick for tick in ticks if axis.low <= math.log10(tick) <= axis.high]


def _linear_ticks(axis: _Axis) -> list[float]:
    """About five round values."""
    raw = (axis.high - axis.low) / 5 or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(base * power for base in (1, 2, 5, 10) if base * power >= raw)
    first = math.ceil(axis.low / step)
    return [round(k * step, 10) for k in range(first, math.floor(axis.high / step) + 1)]


def _steps(front: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The staircase through the front."""
    stairs: list[tuple[float, float]] = []
    for x, y in front:
        if stairs:
            stairs.append((x, stairs[-1][1]))
        stairs.append((x, y))
    return stairs


def _frame(x_label: str, y_label: str, top: float = TOP) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    middle = (top + bottom) / 2
    return (
        f'<path class="axis" d="M{LEFT} {top:.0f}V{bottom}H{right}"/>'
        f'<text class="title" x="{(LEFT + right) / 2}" y="{HEIGHT - 8}">{escape(x_label)}</text>'
        f'<text class="title" transform="translate(14 {middle:.0f}) rotate(-90)">{escape(y_label)}</text>'
    )


def _x_tick(x: float, text: str) -> str:
    bottom = HEIGHT - BOTTOM
    return (
        f'<line class="grid" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 5}"/>'
        f'<text class="tick middle" x="{x:.1f}" y="{bottom + 18}">{text}</text>'
    )


def _y_tick(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>'
        f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{text}</text>'
    )


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _svg(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
