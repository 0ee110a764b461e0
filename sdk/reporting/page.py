"""render_report: a summary as one HTML page that loads nothing from anywhere."""

from collections.abc import Sequence
from html import escape
from math import prod
from pathlib import Path
from typing import Any

from edgefold.device_states import DeviceState
from edgefold.reporting.canvas import NARROW, WIDE
from edgefold.reporting.figures import curves_plot, trade_off_plot
from edgefold.reporting.method import describe_method, describe_threads
from edgefold.reporting.parts import (
    draw_for_desk_and_phone,
    draw_ratio,
    draw_section,
    draw_table,
    draw_with_aside,
    say,
    write_page,
)
from edgefold.reporting.summaries import DemoSummary, ModelResult


def render_report(summary: DemoSummary, out: Path) -> Path:
    """Write the page: headline, trade-off, table, training, sizes, gates, device, and how each figure was made."""
    sections = (
        _headline(summary),
        draw_section("Accuracy against latency", _trade_off(summary)),
        draw_section("Every model on the same axes", _results_table(summary), _results_note()),
        draw_section("Training", _training(summary)),
        draw_section("What was made smaller", _dimensions_table(summary), _layers(summary)),
        draw_section("Gates", _gates_table(summary)),
        draw_section("Device", _device_table(summary.device_before, summary.device_after)),
        draw_section("How each figure was made", describe_method(summary)),
    )
    return write_page("edgefold demo", sections, out)


def make_headline(summary: DemoSummary) -> str:
    """The result in one sentence: a dominated student is called dominated, a lead that is none is denied."""
    student = _chosen_int8(summary, "student")
    said = (
        f"{_faster(summary.speedup_int8)} than the fp32 teacher at "
        f"{summary.int8_accuracy / summary.teacher_accuracy:.1%} of its accuracy"
    )
    rival = summary.dominated.get(student.name) if student else None
    if rival is not None:
        return f"The int8 student is {said}, and is dominated by {rival}."
    if not _is_clear_of_int8_teacher(summary):
        return f"The int8 student is {said}, but not clearly faster than the teacher in int8."
    lead = _faster(summary.speedup_int8 / summary.teacher_int8_speedup)
    return f"The int8 student is {said}, and {lead} than the teacher in int8."


def _is_clear_of_int8_teacher(summary: DemoSummary) -> bool:
    student, teacher = _chosen_int8(summary, "student"), _chosen_int8(summary, "teacher")
    if student is None or teacher is None:
        return summary.speedup_int8 > summary.teacher_int8_speedup
    return student.ratio.low > teacher.ratio.high


def _faster(ratio: float) -> str:
    return f"{ratio:.1f}x faster" if ratio >= 1 else f"{1 / ratio:.1f}x slower"


def _chosen(summary: DemoSummary) -> list[ModelResult]:
    return [result for result in summary.results if result.chosen]


def _chosen_int8(summary: DemoSummary, role: str) -> ModelResult | None:
    return next((r for r in _chosen(summary) if r.role == role and r.precision == "int8"), None)


def _headline(summary: DemoSummary) -> str:
    quick = " This was a quick run: fewer texts and epochs, so weaker figures." if summary.quick else ""
    return (
        f'<p class="soft">edgefold demo, seed {summary.seed}, {escape(summary.width)} of the width</p>'
        f"<h1>{escape(make_headline(summary))}</h1>"
        f"<p>fp32 student: {summary.speedup_fp32:.2f}x at {summary.share_of_teacher:.1%}. Teacher in int8, without any "
        f"training: {summary.teacher_int8_speedup:.2f}x. Parameters of the encoder: "
        f"{summary.teacher_encoder_parameters:,} before, {summary.student_encoder_parameters:,} after. Times: "
        f"{escape(summary.shape)}, {describe_threads(summary)}.{quick}</p>"
    )


def _trade_off(summary: DemoSummary) -> str:
    note = (
        '<p class="soft">Bars are one standard error of the accuracy; the dashed line is the Pareto front. Grey: '
        "teacher, green: student, orange: trained rivals.</p>"
    )
    models, rows = _chosen(summary), summary.test_rows
    key = "".join(f"<li>{escape(model.name)}</li>" for model in models)
    narrow = f"{trade_off_plot(models, rows, NARROW, numbered=True)}<ol>{key}</ol>"
    return draw_for_desk_and_phone(trade_off_plot(models, rows, WIDE), narrow) + note


def _results_table(summary: DemoSummary) -> str:
    basis = {"cpu": "faster, CPU", "wall": "faster"}[summary.results[0].ratio.basis]
    columns = ["model", "verdict", "accuracy", "of teacher", basis]
    columns += ["faster, wall"] if _has_wall(summary) else []
    columns += ["p50 ms", "file MB", "parameters", "training s"]
    return draw_table(columns, (_result_row(result, summary) for result in summary.results), text=(0, 1))


def _has_wall(summary: DemoSummary) -> bool:
    return any(result.wall_ratio for result in summary.results)


def _result_row(result: ModelResult, summary: DemoSummary) -> list[str]:
    wall = [draw_ratio(result.wall_ratio)] if _has_wall(summary) else []
    return [
        f'<span class="phrase">{escape(result.name)}</span>',
        _verdict(result, summary),
        draw_with_aside(f"{result.accuracy:.2%}", f"± {result.standard_error(summary.test_rows):.2%}"),
        f"{result.accuracy / summary.teacher_accuracy:.1%}",
        draw_ratio(result.ratio),
        *wall,
        f"{result.p50_s * 1e3:.2f}",
        f"{result.size_bytes / 1e6:.1f}",
        draw_with_aside(f"{result.parameters / 1e6:.2f} M", f"encoder {result.encoder_parameters / 1e6:.2f} M"),
        "-" if result.training_seconds is None else f"{result.training_seconds:.0f}",
    ]


def _verdict(result: ModelResult, summary: DemoSummary) -> str:
    if not result.chosen:
        return '<span class="soft phrase">other encoding chosen</span>'
    rival = summary.dominated.get(result.name)
    if rival:
        return f'<span class="bad phrase">dominated by {escape(rival)}</span>'
    return '<span class="good phrase">not dominated</span>'


def _results_note() -> str:
    return (
        '<p class="soft">"Faster" is the time of the teacher in fp32 over the time of this model, paired block by '
        "block, with a 95 % bootstrap interval; p50 is wall time. Dominated: another model is at least as accurate (as "
        "measured), as fast (overlapping intervals count as equal) and as small (within 1 %), and better in one of "
        "them.</p>"
    )


def _training(summary: DemoSummary) -> str:
    accuracies = [curve for curve in summary.curves if "accuracy" in curve.name]
    losses = [curve for curve in summary.curves if "accuracy" not in curve.name]
    pairs = [(curves, unit) for curves, unit in ((accuracies, "validation accuracy"), (losses, "loss")) if curves]
    plots = [
        draw_for_desk_and_phone(curves_plot(curves, unit, WIDE), curves_plot(curves, unit, NARROW))
        for curves, unit in pairs
    ]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary.seconds.items())
    return "".join(plots) + f'<p class="soft">Seconds spent: {escape(seconds)}.</p>'


def _dimensions_table(summary: DemoSummary) -> str:
    """Dimensions of one family and size are one row: ffn.0 to ffn.5."""
    families: dict[tuple[str, str, int, int], list[str]] = {}
    for dimension in summary.dimensions:
        families.setdefault(_family(dimension), []).append(str(dimension["name"]))
    rows = [_family_row(names, family) for family, names in families.items()]
    return draw_table(("dimension", "kind", "teacher", "student"), rows, text=(0, 1))


def _family(dimension: dict[str, Any]) -> tuple[str, str, int, int]:
    stem = str(dimension["name"]).partition(".")[0]
    return stem, str(dimension["kind"]), int(dimension["teacher_size"]), int(dimension["student_size"])


def _family_row(names: Sequence[str], family: tuple[str, str, int, int]) -> tuple[str, ...]:
    name = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]} ({len(names)})"
    _, kind, before, after = family
    changed = f"<b>{after:,}</b>" if after != before else f'<span class="soft">{after:,}</span>'
    return escape(name), escape(kind), f"{before:,}", changed


def _layers(summary: DemoSummary) -> str:
    rows = (
        (
            f"<code>{escape(layer.parameter)}</code>",
            _shape(layer.teacher),
            _shape(layer.student),
            f"{prod(layer.student) / max(1, prod(layer.teacher)):.1%}",
        )
        for layer in summary.layers
    )
    table = draw_table(("parameter", "teacher", "student", "of its size"), rows)
    return f"<details><summary>Every parameter ({len(summary.layers)})</summary>{table}</details>"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _gates_table(summary: DemoSummary) -> str:
    rows = (
        (
            escape(gate.name),
            '<span class="good">passed</span>' if gate.passed else '<span class="bad">missed</span>',
            _figure_of_gate(gate.value, gate.limit),
            _figure_of_gate(gate.limit, gate.limit),
        )
        for gate in summary.gates
    )
    return draw_table(("step", "verdict", "cost", "allowed"), rows, text=(0, 1))


def _figure_of_gate(value: float, limit: float) -> str:
    """Accuracies as shares, numerical errors as powers of ten."""
    return f"{value:.4f}" if limit >= 1e-3 else f"{value:.1e}"


def _device_table(before: DeviceState, after: DeviceState) -> str:
    states = [state.model_dump() for state in (before, after)]
    rows = [
        (
            escape(name.replace("_", " ")),
            *(f'<span class="cell">{escape(say(state[name]))}</span>' for state in states),
        )
        for name in states[0]
    ]
    return draw_table(("", "before", "after"), rows, text=(0, 1, 2))
