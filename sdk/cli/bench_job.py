"""The measurement behind `edgefold bench`: one artifact, or two in turns on the same inputs."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgefold.artifacts import load_artifact
from edgefold.cli.answers import Answer
from edgefold.cli.tables import make_table
from edgefold.reports import Report, paired_ratio
from edgefold.runtimes import benchmark, benchmark_together, open_session
from edgefold.runtimes.devices import example_inputs
from edgefold.staging import staged_file


def measure(
    folders: list[Path], settings: dict[str, Any], *, batch: int, sequence: int, seconds: float, out: Path | None
) -> Answer:
    """Benchmark one artifact, or two against each other; the ratio says how many times faster the first is.

    Raises:
        InputError: an artifact that is corrupt.
        DeviceError: a runtime or device that cannot be used.
    """
    artifacts = [load_artifact(folder) for folder in folders]
    inputs = example_inputs(artifacts[0].inputs, batch=batch, seq=sequence)
    labels = [str(folder) for folder in folders]
    with ExitStack() as stack:
        sessions = {
            label: stack.enter_context(open_session(artifact, **settings))
            for label, artifact in zip(labels, artifacts, strict=True)
        }
        if len(sessions) == 1:
            reports = [benchmark(sessions[labels[0]], inputs, label=labels[0], min_duration_s=seconds)]
        else:
            together = benchmark_together(sessions, inputs)
            reports = [together[label] for label in labels]
    document: dict[str, Any] = {"reports": [report.model_dump(mode="json") for report in reports]}
    texts: list[Any] = [_table(reports, batch, sequence)]
    if len(reports) == 2:
        ratio = paired_ratio(baseline=reports[1], candidate=reports[0])
        document["ratio"] = {"value": ratio.value, "low": ratio.low, "high": ratio.high, "basis": ratio.basis}
        texts.append(
            f"{labels[0]} takes 1/{ratio.value:.2f} of the time of {labels[1]} "
            f"(95 % interval {ratio.low:.2f} to {ratio.high:.2f}, {ratio.n_blocks} pairs, {ratio.basis} time)."
        )
    if out:
        with staged_file(out) as staging:
            staging.write_text(json.dumps(document) + "\n", encoding="utf-8")
    return Answer(document, tuple(texts))


def _table(reports: list[Report], batch: int, sequence: int) -> Any:
    columns = ("artifact", "precision", "p50 ms", "p90 ms", "p99 ms", "samples/s", "load s", "runs")
    rows = [
        (
            report.label,
            report.precision,
            *(None if value is None else value * 1e3 for value in (report.p50_s, report.p90_s, report.p99_s)),
            report.throughput,
            report.load_s,
            len(report.times_s),
        )
        for report in reports
    ]
    return make_table(f"Batch {batch}, {sequence} tokens, {reports[0].runtime}", columns, rows)
