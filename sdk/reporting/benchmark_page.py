"""render_benchmarks: reports of several runs and devices as one HTML page that loads nothing from anywhere."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from edgefold.device_states import DeviceState
from edgefold.reporting.canvas import NARROW, WIDE
from edgefold.reporting.comparisons import Comparison
from edgefold.reporting.latency_figure import latency_plot
from edgefold.reporting.parts import draw_for_desk_and_phone, draw_section, draw_table, draw_with_aside, say, write_page
from edgefold.reports import Report

Machine = tuple[str, str, str]


def render_benchmarks(reports: Sequence[Report], comparisons: Sequence[Comparison], out: Path) -> Path:
    """Write the page: latencies, what may be compared, every figure, the machines, and how each figure was made.

    Args:
        reports: each with a label of its own.
    """
    machines = _number(reports)
    sections = (
        _headline(reports, machines),
        draw_section("Latency", _figure(reports, machines)),
        draw_section("What may be compared", _comparisons(comparisons)),
        draw_section("Every figure", _figures_table(reports, machines)),
        draw_section("Machines", _machines_table(reports, machines)),
        draw_section("How each model was run", _settings_table(reports)),
        draw_section("How each figure was made", _method()),
    )
    return write_page("edgefold report", sections, out)


def _machine(report: Report) -> Machine:
    return report.address or "", report.before.processor, report.before.system


def _number(reports: Sequence[Report]) -> dict[Machine, int]:
    """The machines in the order in which they appear."""
    return {machine: number for number, machine in enumerate(dict.fromkeys(map(_machine, reports)))}


def _name(machine: Machine) -> str:
    address, processor, _ = machine
    return f"{processor} at {address}" if address else processor


def _headline(reports: Sequence[Report], machines: dict[Machine, int]) -> str:
    models = len({report.model_sha256 or report.label for report in reports})
    names = "; ".join(f"{number + 1}: {_name(machine)}" for machine, number in machines.items())
    counts = f"{_count(models, 'model')} on {_count(len(machines), 'machine')}, {_count(len(reports), 'measurement')}"
    first, last = min(r.before.taken_at for r in reports), max(r.after.taken_at for r in reports)
    return (
        f'<p class="soft">edgefold report, measured from {escape(first[:16])} to {escape(last[:16])} UTC</p>'
        f"<h1>{counts}</h1><p>Machines: {escape(names)}.</p>"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _figure(reports: Sequence[Report], machines: dict[Machine, int]) -> str:
    colours = {report.label: machines[_machine(report)] for report in reports}
    note = (
        '<p class="soft">Dot: median. Line: to the 90th percentile, dashed: to the 99th where there are runs enough to '
        "state one. One colour for each machine.</p>"
    )
    return draw_for_desk_and_phone(latency_plot(reports, colours, WIDE), latency_plot(reports, colours, NARROW)) + note


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return "<p>There is but one measurement.</p>"
    kinds = {"paired": "good", "cautious": "", "none": "bad"}
    titles = {"paired": "paired", "cautious": "with caution", "none": "not comparable"}
    rows = (
        (f'<span class="{kinds[c.kind]}">{titles[c.kind]}</span>', f'<span class="sentence">{escape(str(c))}</span>')
        for c in comparisons
    )
    return draw_table(("", "what can be said"), rows, text=(0, 1))


def _figures_table(reports: Sequence[Report], machines: dict[Machine, int]) -> str:
    columns = ["measurement", "machine", "remarks", "runtime", "batch", "p50 ms", "p90 ms", "p99 ms", "CPU p50 ms"]
    has_gpu = any(report.gpu_times_s for report in reports)
    columns += [*(["GPU p50 ms"] if has_gpu else []), "samples/s", "load s", "first ms", "runs"]
    rows = (_figures_row(report, machines[_machine(report)] + 1, has_gpu) for report in reports)
    return draw_table(columns, rows, text=(0, 2, 3)) + _memory_and_energy(reports)


def _figures_row(report: Report, machine: int, has_gpu: bool) -> list[str]:
    gpu = "-" if report.gpu_p50_s is None else f"{report.gpu_p50_s * 1e3:.3f}"
    return [
        f'<span class="phrase">{escape(report.label)}</span>',
        str(machine),
        _remarks(report),
        draw_with_aside(escape(report.runtime), escape(report.precision)),
        str(report.batch_size) if report.concurrency == 1 else f"{report.batch_size} x {report.concurrency} sessions",
        _interval(report.p50_s, report.p50_interval_s),
        _interval(report.p90_s, report.p90_interval_s),
        _interval(report.p99_s, report.p99_interval_s),
        f"{report.cpu_p50_s * 1e3:.3f}",
        *([gpu] if has_gpu else []),
        f"{report.throughput:.1f}",
        f"{report.load_s:.2f}",
        f"{report.first_run_s * 1e3:.2f}",
        f"{len(report.times_s):,}",
    ]


def _interval(seconds: float | None, interval: tuple[float, float] | None) -> str:
    if seconds is None or interval is None:
        return "-"
    return draw_with_aside(f"{seconds * 1e3:.3f}", f"{interval[0] * 1e3:.3f} to {interval[1] * 1e3:.3f}")


def _remarks(report: Report) -> str:
    remarks = {"contended": report.contended, "throttled": report.throttled}
    told = ", ".join(remark for remark, holds in remarks.items() if holds)
    return f'<span class="bad">{told}</span>' if told else "-"


def _memory_and_energy(reports: Sequence[Report]) -> str:
    items = [f"Memory of {report.label}: {report.memory}." for report in reports if report.memory]
    items += [f"Energy of {report.label}: {report.power}." for report in reports if report.power]
    return "".join(f'<p class="soft">{escape(item)}</p>' for item in items)


def _machines_table(reports: Sequence[Report], machines: dict[Machine, int]) -> str:
    """One column for each, as it was before its first measurement; the load after its last is told as well."""
    of = {machine: [report for report in reports if _machine(report) == machine] for machine in machines}
    states = [measured[0].before for measured in of.values()]
    rows = [
        (escape(name.replace("_", " ")), *(_cell(getattr(state, name)) for state in states))
        for name in DeviceState.model_fields
    ]
    rows.append(("load average after", *(_cell(measured[-1].after.load_average) for measured in of.values())))
    columns = ["", *(f"{number + 1}: {address or 'here'}" for (address, _, _), number in machines.items())]
    return draw_table(columns, rows, text=range(len(columns)))


def _cell(value: object) -> str:
    told = value.model_dump() if hasattr(value, "model_dump") else value
    return f'<span class="cell">{escape(say(told))}</span>'


def _settings_table(reports: Sequence[Report]) -> str:
    rows = (
        (
            f'<span class="phrase">{escape(report.label)}</span>',
            _cell({name: " x ".join(map(str, shape)) for name, shape in report.shapes.items()}),
            _cell({name: say(_flat(value)) for name, value in report.settings.items()}),
            f"<code>{escape((report.model_sha256 or 'unknown')[:12])}</code>",
        )
        for report in reports
    )
    return draw_table(("measurement", "inputs", "settings", "SHA-256"), rows, text=range(4))


def _flat(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _method() -> str:
    items = (
        "Times: wall and process CPU time of every run after a steady-state warm-up; models of one run in one process, "
        "in short blocks taken in turns with the order reversed each time. Raw times are in the JSON files.",
        "Percentiles are of the nearest rank; below them their 95 % intervals from order statistics. A 99th percentile "
        "is stated from 662 runs on.",
        "Paired: the median over blocks of one model's time over the other's, with a 95 % bootstrap interval. With "
        "caution: medians of measurements made at different times, their ratio bounded by both intervals. Not "
        "comparable: models and conditions differ both, or the inputs do.",
        "Load: opening the model; first: its first run. CPU time is of the whole process, all threads. GPU: the "
        "kernels, without copies, between two CUDA events, where the runtime lets them be placed.",
        "Contended: the wall times of single-threaded runs were longer than their CPU times by more than a tenth, or "
        "threads stood in line for cores as long. Throttled: cores were slowed down for heat, or held back by a quota.",
    )
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>"
