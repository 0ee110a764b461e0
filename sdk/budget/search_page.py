"""render_search: what a search found as one HTML page, with the front of quality against what is spent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path

from edgefold.budget.trials import SearchResult, Trial
from edgefold.reporting.canvas import (
    NARROW,
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
from edgefold.reporting.figures import pareto_front
from edgefold.reporting.labels import LABEL_HEIGHT, Box, place_labels
from edgefold.reporting.parts import draw_for_desk_and_phone, draw_section, draw_table, write_page


def render_search(result: SearchResult, out: Path) -> Path:
    """Write the page: verdict, front, every trial, how far the estimates are to be trusted, and what each figure is."""
    said = "met" if result.met else "missed"
    sections = (
        f'<h1>{escape(result.budget)}: <span class="{"good" if result.met else "bad"}">{said}</span></h1>'
        f"<p>{escape(_verdict(result))}</p>",
        draw_section("Quality against what is spent", _front(result)),
        draw_section("Every trial", _table(result)),
        draw_section("How far to trust the estimates", _trust(result)),
        draw_section("How each figure was made", _method(result)),
    )
    return write_page("edgefold search", sections, out)


def _verdict(result: SearchResult) -> str:
    best = result.best
    reached = f"{result.winner} keeps {best.rank:.1%} of the teacher's {result.metric} on the validation data"
    goal = f"asked for: {result.keep:.1%} within {result.budget}, {result.shape}"
    return f"{reached}; {goal}. {result.advice}".strip()


@dataclass(frozen=True)
class _Dot:
    """A trial, or the teacher, by what it costs and the share of quality that it keeps."""

    name: str
    kind: str
    cost: float
    share: float


def _dots(result: SearchResult) -> list[_Dot]:
    teacher = _Dot("teacher", "teacher", result.teacher_seconds * 1e3, 1.0)
    trials = (
        _Dot(str(number), "rival" if trial.spent is None else "student", result.seconds(trial) * 1e3, trial.share)
        for number, trial in enumerate(result.trials, 1)
        if trial.share is not None
    )
    return [teacher, *trials]


def _front(result: SearchResult) -> str:
    note = (
        '<p class="soft">Green: trained whole, latency measured; orange: trained in short, latency predicted; grey: '
        "the teacher. Numbers are those of the table. Dotted: the goal. Dashed: the Pareto front of the students "
        "trained whole.</p>"
    )
    return draw_for_desk_and_phone(*(_plot(result, canvas) for canvas in (WIDE, NARROW))) + note


def _plot(result: SearchResult, canvas: Canvas) -> str:
    dots = _dots(result)
    limit = result.limit * 1e3 if result.is_timed else None
    costs = [dot.cost for dot in dots] + ([limit] if limit else [])
    shares = [dot.share for dot in dots] + [result.keep]
    margin = 0.12 * ((max(shares) - min(shares)) or 0.01)
    while True:
        x = Axis(math.log10(min(costs) / 1.25), math.log10(max(costs) * 1.25), canvas.left, canvas.x_end)
        y = Axis(min(shares) - margin, max(shares) + margin, canvas.y_end, canvas.top)
        places = [(x.place(math.log10(dot.cost)), y.place(dot.share)) for dot in dots]
        labels = place_labels(places, [dot.name for dot in dots], canvas)
        if labels is not None:
            break
        canvas = replace(canvas, height=canvas.height + 4 * LABEL_HEIGHT)
    height = y.place(result.keep)
    goal: list[list[tuple[float, float]]] = [[(canvas.left, height), (canvas.x_end, height)]]
    if limit:
        place = x.place(math.log10(limit))
        goal.append([(place, canvas.y_end), (place, canvas.top)])
    parts = [
        draw_frame(canvas, "latency, ms (logarithmic)", "of the teacher's quality", canvas.top),
        *(draw_x_tick(canvas, x.place(math.log10(tick)), f"{tick:g}") for tick in find_log_ticks(x)),
        *(draw_y_tick(canvas, y.place(tick), f"{tick:.{max(0, y.decimals - 2)}%}") for tick in y.ticks),
        *(draw_line("axis tail", line) for line in goal),
        *_whole(dots, places),
        *(
            f'<circle class="{d.kind}" cx="{p[0]:.1f}" cy="{p[1]:.1f}" r="5"/>'
            for d, p in zip(dots, places, strict=True)
        ),
        *(_label(dot, box) for dot, box in zip(dots, labels, strict=True)),
    ]
    return draw_svg(canvas, parts, "Share of the teacher's quality against latency")


def _whole(dots: Sequence[_Dot], places: Sequence[tuple[float, float]]) -> list[str]:
    """The front of what was trained whole, the teacher included."""
    measured = [(dot, place) for dot, place in zip(dots, places, strict=True) if dot.kind != "rival"]
    front = pareto_front([dot.cost for dot, _ in measured], [dot.share for dot, _ in measured])
    return [draw_line("front", sorted(measured[i][1] for i in front))]


def _marker(dot: _Dot, x: float, y: float) -> str:
    return f'<circle class="{dot.kind}" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'


def _label(dot: _Dot, box: Box) -> str:
    return f'<text class="label" x="{box.x:.1f}" y="{box.y + box.height - 4:.1f}">{escape(dot.name)}</text>'


def _table(result: SearchResult) -> str:
    columns = (
        "",
        "plan",
        "epochs",
        "learning rate",
        "of the teacher",
        "ms measured",
        "ms predicted",
        "parameters",
        "damage estimated",
    )
    return draw_table(columns, (_row(n, trial, result) for n, trial in enumerate(result.trials, 1)), text=(0, 1))


def _row(number: int, trial: Trial, result: SearchResult) -> list[str]:
    chosen = ' <span class="good">chosen</span>' if trial.name == result.winner else ""
    return [
        f"{number}{chosen}",
        f'<span class="sentence">{escape(trial.described)}</span>',
        str(trial.epochs),
        f"{trial.learning_rate:.2g}",
        "-" if trial.share is None else f"{trial.share:.1%}",
        "-" if trial.timing is None else f"{result.seconds(trial) * 1e3:.2f}",
        f"{trial.predicted_seconds * 1e3:.2f}",
        f"{trial.parameters / 1e6:.2f} M",
        f"{trial.damage:.3f}",
    ]


def _trust(result: SearchResult) -> str:
    correlation = result.rank_correlation
    said = "unknown: too few short trainings" if correlation is None else f"{correlation:.2f}"
    return (
        f"<p>The latency model is off by {result.latency_error:.1%} (median) on plans that it was not fitted to. "
        f"Spearman's rank correlation of little estimated damage with the quality of the short trainings: {said}.</p>"
    )


def _method(result: SearchResult) -> str:
    return (
        f"<p>Latency: {escape(result.shape)}, measured in turns with the teacher and told for a machine that gives "
        f"the teacher its median time, {result.teacher_seconds * 1e3:.2f} ms. Quality: {escape(result.metric)} of the "
        f"student in float32 on the validation data, as a share of the teacher's {result.teacher_quality:.4f}. The "
        "estimated damage is the share of the variance of the teacher's outputs that a plan would miss before any "
        "training.</p>"
    )
