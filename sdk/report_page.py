"""render_report: a summary as one HTML page that loads nothing from anywhere."""

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from edgefold.report_figures import curves_plot, trade_off_plot
from edgefold.reports import DeviceState
from edgefold.staging import staged_file
from edgefold.summaries import DemoSummary, ModelResult

STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1c2330;--soft:#5b6472;--line:#d9dee6;--teacher:#6b7280;--student:#0b7a53;
--rival:#b3541e;--c0:#0b7a53;--c1:#2f6fce;--c2:#b3541e;--c3:#8b4fc2;--c4:#a3820c;--c5:#c23b6a;--good:#0b7a53;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--bg:#14181f;--fg:#e6e9ee;--soft:#9aa4b2;--line:#333b47;--teacher:#a7b0bd;
--student:#3ecf97;--rival:#f0955c;--c0:#3ecf97;--c1:#79aef5;--c2:#f0955c;--c3:#c39af0;--c4:#dcc04f;--c5:#f286ab;
--good:#3ecf97;--bad:#ff8a80}}
*{box-sizing:border-box}body{margin:0 auto;max-width:920px;padding:24px 18px 64px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}h1{font-size:26px;line-height:1.25;margin:8px 0}
h2{font-size:19px;margin:36px 0 8px}p,li{max-width:72ch}.soft{color:var(--soft)}.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:14px}th,td{padding:6px 10px;
border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th:first-child,td:first-child{text-align:left}
th{font-weight:600;color:var(--soft)}td.text{text-align:left;white-space:normal}.good{color:var(--good)}.bad{color:var(--bad)}
.cell{white-space:normal;display:inline-block;max-width:38ch}
svg{width:100%;height:auto;display:block;margin:8px 0}svg text{font:12px system-ui,sans-serif;fill:var(--fg)}
svg .title{fill:var(--soft);text-anchor:middle}svg .tick{fill:var(--soft)}svg .middle{text-anchor:middle}
svg .end{text-anchor:end}svg .axis{fill:none;stroke:var(--soft)}svg .grid{stroke:var(--line)}
svg .error{stroke:var(--soft)}svg .leader{stroke:var(--soft);stroke-dasharray:2 3}
svg .front{fill:none;stroke:var(--student);stroke-dasharray:5 4;opacity:.7}
svg circle.teacher{fill:var(--teacher)}svg circle.student{fill:var(--student)}svg circle.rival{fill:var(--rival)}
svg .label{paint-order:stroke;stroke:var(--bg);stroke-width:3px}svg .dot{stroke-width:3}
svg .curve{fill:none;stroke-width:2}svg .c0{stroke:var(--c0)}svg .c1{stroke:var(--c1)}
svg .c2{stroke:var(--c2)}
svg .c3{stroke:var(--c3)}svg .c4{stroke:var(--c4)}svg .c5{stroke:var(--c5)}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
details{margin:8px 0}summary{cursor:pointer;font-weight:600}
""".replace("\n", "")


def render_report(summary: DemoSummary, out: Path) -> Path:
    """Write the page: headline, trade-off, table, training, sizes, gates, device, and how each figure was made."""
    sections = (
        _headline(summary),
        _section("Accuracy against latency", trade_off_plot(_chosen(summary), summary.test_rows), _PLOT_NOTE),
        _section("Every model on the same axes", _results_table(summary), _results_note(summary)),
        _section("Training", _training(summary)),
        _section("What was made smaller", _dimensions_table(summary), _layers(summary)),
        _section("Gates", _gates_table(summary)),
        _section("Device", _device_table(summary.device_before, summary.device_after)),
        _section("How each figure was made", _method(summary)),
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>edgefold demo</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head><body>{''.join(sections)}</body></html>"
    )
    with staged_file(out) as staging:
        staging.write_text(page, encoding="utf-8")
    return out


def make_headline(summary: DemoSummary) -> str:
    """The result in one sentence, dominated students called dominated."""
    student = next(r for r in _chosen(summary) if r.role == "student" and r.precision == "int8")
    said = (
        f"{summary.speedup_int8:.1f}x faster than the fp32 teacher at "
        f"{summary.int8_accuracy / summary.teacher_accuracy:.1%} of its accuracy"
    )
    rival = summary.dominated.get(student.name)
    if rival is not None:
        return f"The int8 student is {said}, and is dominated by {rival}."
    lead = summary.speedup_int8 / summary.teacher_int8_speedup
    return f"The int8 student is {said}, and {lead:.1f}x faster than the teacher in int8."


_PLOT_NOTE = (
    '<p class="soft">Bars are one standard error of the accuracy; the dashed line is the Pareto front. Grey: teacher, '
    "green: student, orange: trained rivals.</p>"
)


def _chosen(summary: DemoSummary) -> list[ModelResult]:
    return [result for result in summary.results if result.chosen]


def _headline(summary: DemoSummary) -> str:
    quick = " This was a quick run: fewer texts and epochs, so weaker figures." if summary.quick else ""
    return (
        f'<p class="soft">edgefold demo, seed {summary.seed}, {escape(summary.width)} of the width</p>'
        f"<h1>{escape(make_headline(summary))}</h1>"
        f"<p>fp32 student: {summary.speedup_fp32:.2f}x at {summary.share_of_teacher:.1%}. Teacher in int8, untrained: "
        f"{summary.teacher_int8_speedup:.2f}x. Encoder parameters: {summary.teacher_encoder_parameters:,} to "
        f"{summary.student_encoder_parameters:,}. Times: {escape(summary.shape)}, one thread.{quick}</p>"
    )


def _section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{''.join(content)}</section>"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _results_table(summary: DemoSummary) -> str:
    columns = ("model", "accuracy", "of teacher", "faster by", "p50 ms", "MB", "encoder", "verdict")
    return _table(columns, (_result_row(result, summary) for result in summary.results))


def _result_row(result: ModelResult, summary: DemoSummary) -> tuple[str, ...]:
    error = result.standard_error(summary.test_rows)
    return (
        escape(result.name),
        f"{result.accuracy:.2%} ± {error:.2%}",
        f"{result.accuracy / summary.teacher_accuracy:.1%}",
        f"{result.ratio.value:.2f} ({result.ratio.low:.2f} to {result.ratio.high:.2f})",
        f"{result.p50_s * 1e3:.2f}",
        f"{result.size_bytes / 1e6:.1f}",
        f"{result.encoder_parameters / 1e6:.2f} M",
        _verdict(result, summary),
    )


def _verdict(result: ModelResult, summary: DemoSummary) -> str:
    if not result.chosen:
        return '<span class="soft">not chosen</span>'
    rival = summary.dominated.get(result.name)
    return (
        f'<span class="bad">dominated by {escape(rival)}</span>' if rival else '<span class="good">not dominated</span>'
    )


def _results_note(summary: DemoSummary) -> str:
    basis = {result.ratio.basis for result in summary.results}
    return (
        f'<p class="soft">Ratios are teacher fp32 time over this model\'s time ({", ".join(sorted(basis))} time), '
        "paired block by block, with a 95 % bootstrap interval. Dominated: another model is at least as accurate, as "
        "fast and as small, and "
        "better in one of them, as measured.</p>"
    )


def _training(summary: DemoSummary) -> str:
    accuracies = [curve for curve in summary.curves if "accuracy" in curve.name]
    losses = [curve for curve in summary.curves if "accuracy" not in curve.name]
    plots = [
        curves_plot(curves, unit) for curves, unit in ((accuracies, "validation accuracy"), (losses, "loss")) if curves
    ]
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary.seconds.items())
    return "".join(plots) + f'<p class="soft">Seconds: {escape(seconds)}.</p>'


def _dimensions_table(summary: DemoSummary) -> str:
    rows = (
        (escape(str(d["name"])), escape(str(d["kind"])), str(d["teacher_size"]), str(d["student_size"]))
        for d in summary.dimensions
    )
    return _table(("dimension", "kind", "teacher", "student"), rows)


def _layers(summary: DemoSummary) -> str:
    rows = (
        (f"<code>{escape(layer.parameter)}</code>", _shape(layer.teacher), _shape(layer.student))
        for layer in summary.layers
    )
    table = _table(("parameter", "teacher", "student"), rows)
    return f"<details><summary>Every parameter ({len(summary.layers)})</summary>{table}</details>"


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)


def _gates_table(summary: DemoSummary) -> str:
    rows = (
        (
            escape(gate.name),
            f"{gate.value:.2e}",
            f"{gate.limit:.0e}",
            '<span class="good">passed</span>' if gate.passed else '<span class="bad">missed</span>',
        )
        for gate in summary.gates
    )
    return _table(("step", "cost", "allowed", ""), rows)


def _device_table(before: DeviceState, after: DeviceState) -> str:
    rows = [
        (
            name,
            escape(_said(getattr(before, name.replace(" ", "_")))),
            escape(_said(getattr(after, name.replace(" ", "_")))),
        )
        for name in (
            "processor",
            "instruction sets",
            "cores",
            "cpu limit",
            "governor",
            "load average",
            "system",
            "versions",
            "taken at",
        )
    ]
    return _table(
        ("", "before", "after"), [(row[0], *(f'<span class="cell">{cell}</span>' for cell in row[1:])) for row in rows]
    )


def _said(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, tuple):
        return ", ".join(f"{item:.2f}" if isinstance(item, float) else str(item) for item in value)
    return "-" if value is None else str(value)


def _method(summary: DemoSummary) -> str:
    items = (
        f"Accuracy: share of the {summary.test_rows} test rows whose largest logit is the label's, in ONNX "
        "Runtime; its "
        "standard error is binomial. Nothing was chosen on the test data; the int8 encoding was chosen on the "
        "validation data.",
        "Latency: wall and process CPU time of every run after a steady-state warm-up, all models in one "
        "process, in short "
        "blocks taken in turns with the order reversed each time, one thread, spinning off. Raw times: benchmark.json.",
        "int8: of the static and the dynamic encoding the faster one that keeps the validation accuracy within "
        "half a point.",
        "Sizes: of the ONNX file. Encoder parameters leave out look-up tables and heads.",
        "Rivals, where trained: given the seconds that the student took to start and to train, on the same threads.",
    )
    commands = "".join(f"<li><code>{escape(command)}</code></li>" for command in summary.commands)
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul><p>Commands:</p><ul>{commands}</ul>"
