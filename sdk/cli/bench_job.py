"""The measurement behind `edgefold bench`: one artifact, or two in turns on the same inputs."""

from pathlib import Path
from typing import Any

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.answers import Answer
from edgefold.cli.tables import make_table
from edgefold.reports import Report, paired_ratio, write_report
from edgefold.runtimes import benchmark_artifacts, example_inputs


def measure(
    folders: list[Path],
    settings: dict[str, Any],
    *,
    batch: int,
    sequence: int,
    past: int = 0,
    part: str | None = None,
    seconds: float,
    out: Path | None,
) -> Answer:
    """Benchmark one artifact, or two against each other; the ratio says how many times faster the first is.

    Raises:
        InputError: an artifact that is corrupt, or sizes that it does not take.
        DeviceError: a runtime or device that cannot be used.
    """
    artifacts = label_artifacts(folders)
    if part:
        artifacts = {label: artifact.part(part) for label, artifact in artifacts.items()}
    vocab_size = min((artifact.vocab_size for artifact in artifacts.values() if artifact.vocab_size), default=None)
    inputs = example_inputs(
        next(iter(artifacts.values())).inputs, batch=batch, sequence=sequence, past=past, vocab_size=vocab_size
    )
    reports = list(benchmark_artifacts(artifacts, inputs, min_duration_s=seconds, **settings).values())
    document: dict[str, Any] = {
        "reports": [{**report.summary(), **report.model_dump(mode="json")} for report in reports]
    }
    texts: list[Any] = [_table(reports, artifacts, _title(artifacts, batch, sequence, past))]
    if len(reports) == 2:
        ratio = paired_ratio(baseline=reports[1], candidate=reports[0])
        document["ratio"] = ratio.model_dump(mode="json")
        texts.append(f"Speed of {reports[0].label} against {reports[1].label}: {ratio}")
    texts += [f"Energy of {report.label}: {report.power}" for report in reports if report.power]
    if any(report.contended for report in reports):
        texts.append("Another process had a share of the core; the ratio in CPU time holds, wall times do not.")
    if out:
        write_report(document, out)
        texts.append(f"Every raw time is in {out}.")
    return Answer(document, tuple(texts))


def label_artifacts(folders: list[Path]) -> dict[str, Artifact]:
    """Each artifact under its path; one that is measured against itself under two names."""
    labels = [str(folder) for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return {label: load_artifact(folder) for label, folder in zip(labels, folders, strict=True)}


def _title(artifacts: dict[str, Artifact], batch: int, sequence: int, past: int) -> str:
    dimensions = {size for artifact in artifacts.values() for spec in artifact.inputs for size in spec.shape}
    tokens = f", {sequence} tokens" if dimensions & {"sequence", "encoder_sequence"} else ""
    return f"Batch {batch}{tokens}{f' after {past}' if 'past' in dimensions else ''}"


def _table(reports: list[Report], artifacts: dict[str, Artifact], title: str) -> Any:
    columns = ("artifact", "precision", "MB", "p50 ms", "p90 ms", "p99 ms", "CPU p50 ms", "samples/s", "load s", "runs")
    rows = [
        (
            report.label,
            report.precision,
            artifacts[report.label].size_bytes / 1e6,
            *(None if t is None else t * 1e3 for t in (report.p50_s, report.p90_s, report.p99_s, report.cpu_p50_s)),
            report.throughput,
            report.load_s,
            len(report.times_s),
        )
        for report in reports
    ]
    first = reports[0]
    return make_table(
        f"{title}, {first.runtime} on {first.where}, {first.settings['threads']} thread(s)", columns, rows
    )
