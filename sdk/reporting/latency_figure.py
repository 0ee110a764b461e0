"""The figure of measured latencies: a row for each measurement, its median, and how far its slow runs reach."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape

from edgefold.reporting.canvas import WIDE, Axis, Canvas, draw_line, draw_svg, draw_x_tick, find_log_ticks
from edgefold.reporting.labels import shorten
from edgefold.reports import Report

ROW = 40
"""Pixels of one measurement, its label above its line."""
LOGARITHMIC_FROM = 10
"""Longest over shortest time from which a linear axis would press the short ones together."""
COLOURS = 6


def latency_plot(reports: Sequence[Report], machines: Mapping[str, int], canvas: Canvas = WIDE) -> str:
    """p50 as a dot, a line on to p90 and, where it is stated, a dashed one to p99.

    Args:
        machines: label of a report -> number of the machine that it was measured on, which decides its colour.
    """
    canvas = replace(canvas, left=16, height=canvas.top + ROW * len(reports) + canvas.bottom)
    axis, ticks, kind = _axis(reports, canvas)
    middle, bottom = (canvas.left + canvas.x_end) / 2, canvas.height - 8
    parts = [
        f'<path class="axis" d="M{canvas.left} {canvas.y_end}H{canvas.x_end}"/>',
        f'<text class="title" x="{middle:.0f}" y="{bottom}">latency, ms{kind}</text>',
    ]
    for place, text in ticks:
        grid = f'<line class="grid" x1="{place:.1f}" y1="{canvas.top}" x2="{place:.1f}" y2="{canvas.y_end}"/>'
        parts += [grid, draw_x_tick(canvas, place, text)]
    for index, report in enumerate(reports):
        y = canvas.top + ROW * index + 28
        parts += _row(report, y, f"c{machines[report.label] % COLOURS}", axis, canvas)
    return draw_svg(canvas, parts, "Latency of every measurement")


def _axis(reports: Sequence[Report], canvas: Canvas) -> tuple["_Scale", list[tuple[float, str]], str]:
    """From 0 where the times lie close together, else of logarithms."""
    longest = max(report.p99_s or report.p90_s for report in reports) * 1e3
    shortest = min(report.p50_s for report in reports) * 1e3
    if longest < LOGARITHMIC_FROM * shortest:
        axis = Axis(0, longest * 1.05, canvas.left, canvas.x_end)
        return _Scale(axis, False), [(axis.place(tick), f"{tick:.{axis.decimals}f}") for tick in axis.ticks], ""
    axis = Axis(math.log10(shortest / 1.25), math.log10(longest * 1.25), canvas.left, canvas.x_end)
    ticks = [(axis.place(math.log10(tick)), f"{tick:g}") for tick in find_log_ticks(axis)]
    return _Scale(axis, True), ticks, " (logarithmic)"


class _Scale:
    """Seconds to pixels."""

    def __init__(self, axis: Axis, logarithmic: bool) -> None:
        self._axis, self._logarithmic = axis, logarithmic

    def place(self, seconds: float) -> float:
        milliseconds = seconds * 1e3
        return self._axis.place(math.log10(milliseconds) if self._logarithmic else milliseconds)


def _row(report: Report, y: float, colour: str, scale: _Scale, canvas: Canvas) -> list[str]:
    p50, p90 = scale.place(report.p50_s), scale.place(report.p90_s)
    figure = f" {report.p50_s * 1e3:.3g} ms"
    label = shorten(report.label, replace(canvas, right=canvas.right + 7 * len(figure))) + figure
    tail = [draw_line(f"tail {colour}", [(p90, y), (scale.place(report.p99_s), y)])] if report.p99_s else []
    return [
        f'<text class="label" x="{canvas.left + 4}" y="{y - 10:.1f}">{escape(label)}</text>',
        *tail,
        draw_line(f"curve {colour}", [(p50, y), (p90, y)]),
        f'<circle class="dot {colour}" cx="{p50:.1f}" cy="{y:.1f}" r="5"/>',
    ]
