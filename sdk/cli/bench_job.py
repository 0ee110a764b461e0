"""The measurement behind `edgefold bench`: one artifact, or two in turns on the same inputs, for each batch size."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.answers import Answer
from edgefold.cli.tables import make_table
from edgefold.errors import InputError
from edgefold.ratios import Ratio, paired_ratio
from edgefold.reports import Report, write_report
from edgefold.runtimes import benchmark_artifacts, example_inputs, open_session
from edgefold.runtimes.devices import USUAL_SIZES

if TYPE_CHECKING:
    from edgefold.cli.torch_rivals import TorchRival

IN_FORCE = "inference_precision"
"""The setting in which a runtime that may choose says what floats are really computed in."""
OPENING = ("runtime", "device", "threads", "provider", "io_binding", "cuda_graph", "tf32")
"""The settings with which a session is opened."""
Figures = list[tuple[int, list[Report], Ratio | None]]
"""Of each batch size: the reports, and how many times faster the first is than the second."""


USUAL_TOKENS = 128


@dataclass(frozen=True)
class Inputs:
    """The sizes of what is measured."""

    batches: tuple[int, ...]
    sequence: int | None = None
    """Tokens; None takes as many as are usual and as all of the artifacts have positions for."""
    past: int = 0
    part: str | None = None
    """Graph of an encoder-decoder."""

    def tokens(self, artifacts: Mapping[str, Artifact]) -> int:
        """Of one sample."""
        limits = [artifact.most_positions for artifact in artifacts.values() if artifact.most_positions]
        return self.sequence or min([USUAL_TOKENS, *limits])

    def make(self, artifacts: Mapping[str, Artifact], batch: int) -> dict[str, Any]:
        """Arrays that all of the artifacts take."""
        sizes = [artifact.vocab_size for artifact in artifacts.values() if artifact.vocab_size]
        specs = next(iter(artifacts.values())).inputs
        limits = [artifact.limits for artifact in artifacts.values()]
        names = {name for each in limits for name in each}
        return example_inputs(
            specs,
            batch=batch,
            sequence=self.tokens(artifacts),
            past=self.past,
            vocab_size=min(sizes, default=None),
            limits={name: min(each[name] for each in limits if name in each) for name in names},
        )

    def title(self, artifacts: Mapping[str, Artifact]) -> str:
        dimensions = {size for artifact in artifacts.values() for spec in artifact.inputs for size in spec.shape}
        tokens = f", {self.tokens(artifacts)} tokens" if dimensions & {"sequence", "encoder_sequence"} else ""
        after = f" after {self.past}" if "past" in dimensions else ""
        others = "".join(f", {size} {name}" for name, size in USUAL_SIZES.items() if name in dimensions)
        return f"Batch {', '.join(map(str, self.batches))}{others}{tokens}{after}"


def measure(
    folders: list[Path],
    settings: dict[str, Any],
    inputs: Inputs,
    *,
    scenario: str,
    loadgen: bool,
    out: Path | None,
    against_torch: Path | None = None,
    compiled: bool = False,
) -> Answer:
    """Benchmark one artifact, or two against each other; the ratio says how many times faster the first is.

    Args:
        against_torch: folder of a model that is measured in torch, by torch.compile where that is asked for.

    Raises:
        InputError: an artifact that is corrupt, or sizes that it does not take.
        DeviceError: a runtime or device that cannot be used.
    """
    artifacts = label_artifacts(folders)
    if inputs.part:
        artifacts = {label: artifact.part(inputs.part) for label, artifact in artifacts.items()}
    if loadgen and settings["device"].startswith("ssh://"):
        raise InputError(f"LoadGen drives sessions of this machine; {settings['device']} is another.")
    rival = _open_rival(artifacts, against_torch, compiled) if against_torch else None
    figures: Figures = []
    for batch in inputs.batches:
        reports = _measure_batch(artifacts, inputs.make(artifacts, batch), settings, rival)
        ratio = paired_ratio(baseline=reports[1], candidate=reports[0]) if len(reports) == 2 else None
        figures.append((batch, reports, ratio))
    document = _document(figures)
    sizes = {label: artifact.size_bytes for label, artifact in artifacts.items()}
    sizes |= {rival.label: rival.size_bytes} if rival else {}
    texts = [_table(figures, sizes, inputs.title(artifacts)), *_remarks(figures)]
    if scenario == "offline":
        document["offline"] = {label: best.throughput for label, best in _best(figures).items()}
        texts += [
            f"Offline: {label} does {best.throughput:.1f} samples/s at best, with batch {best.batch_size}."
            for label, best in _best(figures).items()
        ]
    if loadgen:
        found = _run_loadgen(artifacts, inputs, settings, scenario, figures)
        document["loadgen"] = {label: result.model_dump(mode="json") for label, result in found.items()}
        texts += [f"{label}: {result}" for label, result in found.items()]
    if out:
        write_report(document, out)
        texts.append(f"Every raw time is in {out}.")
    return Answer(document, tuple(texts))


def _open_rival(artifacts: Mapping[str, Artifact], folder: Path, compiled: bool) -> "TorchRival":
    """
    Raises:
        InputError: an encoder-decoder, or a folder that does not fit.
    """
    (artifact,) = artifacts.values()
    if artifact.parts:
        raise InputError(
            f"{artifact.folder} is an encoder-decoder, of which torch runs no single graph; leave torch out."
        )
    from edgefold.cli.torch_rivals import TorchRival

    return TorchRival(folder, artifact, compiled)


def _measure_batch(
    artifacts: Mapping[str, Artifact], feeds: Mapping[str, Any], settings: Mapping[str, Any], rival: "TorchRival | None"
) -> list[Report]:
    """The artifacts' reports, and the rival's after them."""
    with ExitStack() as stack:
        beside = {}
        if rival:
            options = {name: settings[name] for name in ("device", "threads", "tf32")}
            beside[rival.label] = stack.enter_context(rival.opened(**options))
        return list(benchmark_artifacts(artifacts, feeds, beside=beside, **settings).values())


def label_artifacts(folders: list[Path]) -> dict[str, Artifact]:
    """Each artifact under its path; one that is measured against itself under two names."""
    labels = [str(folder) for folder in folders]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return {label: load_artifact(folder) for label, folder in zip(labels, folders, strict=True)}


def _document(figures: Figures) -> dict[str, Any]:
    every = [report for _, reports, _ in figures for report in reports]
    document: dict[str, Any] = {"reports": [{**report.summary(), **report.model_dump(mode="json")} for report in every]}
    ratios = {batch: ratio.model_dump(mode="json") for batch, _, ratio in figures if ratio}
    if ratios:
        document["ratio"] = next(iter(ratios.values()))
    if len(ratios) > 1:
        document["ratio_by_batch"] = ratios
    return document


def _remarks(figures: Figures) -> list[str]:
    every = [report for _, reports, _ in figures for report in reports]
    texts = []
    for batch, reports, ratio in figures:
        if ratio:
            at = f", batch {batch}" if len(figures) > 1 else ""
            texts.append(f"Speed of {reports[0].label} against {reports[1].label}{at}: {ratio}")
    texts += [
        f"Memory of {report.label}, batch {report.batch_size}: {report.memory}" for report in every if report.memory
    ]
    texts += [f"Energy of {report.label}: {report.power}" for report in every if report.power]
    if any(report.contended for report in every):
        alone = every[0].settings["threads"] == every[0].concurrency == 1
        holds = "CPU times and their ratio hold, wall times do not" if alone else "measure again"
        texts.append(f"Another process had a share of the cores; {holds}.")
    return texts


def _best(figures: Figures) -> dict[str, Report]:
    """Of each artifact the measurement with the highest throughput."""
    best: dict[str, Report] = {}
    for _, reports, _ in figures:
        for report in reports:
            if report.label not in best or report.throughput > best[report.label].throughput:
                best[report.label] = report
    return best


def _run_loadgen(
    artifacts: Mapping[str, Artifact], inputs: Inputs, settings: Mapping[str, Any], scenario: Any, figures: Figures
) -> dict[str, Any]:
    """LoadGen on each artifact: on the first batch size, or on the one that was best."""
    from edgefold.runtimes.loadgen import run_loadgen

    opening = {name: settings[name] for name in OPENING if name in settings}
    found = {}
    for label, artifact in artifacts.items():
        batch = _best(figures)[label].batch_size if scenario == "offline" else inputs.batches[0]
        with open_session(artifact, **opening) as session:
            feeds = inputs.make(artifacts, batch)
            found[label] = run_loadgen(session, feeds, scenario, min_duration_s=settings["min_duration_s"])
    return found


def _table(figures: Figures, sizes: Mapping[str, int], title: str) -> Any:
    """
    Args:
        sizes: label -> bytes.
    """
    columns = ["artifact", "precision", "MB", "batch"]
    every = [report for _, reports, _ in figures for report in reports]
    columns += [
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "CPU p50 ms",
        *_gpu_column(every),
        "samples/s",
        "load s",
        "first ms",
        "runs",
    ]
    first = every[0]
    together = f", {first.concurrency} at a time" if first.concurrency > 1 else ""
    computed = f", computed in {first.settings[IN_FORCE]}" if IN_FORCE in first.settings else ""
    runtimes = " and ".join(dict.fromkeys(report.runtime for report in every))
    return make_table(
        f"{title}, {runtimes} on {first.where}{_variant(first)}, {first.settings['threads']} "
        f"thread(s){together}{computed}",
        columns,
        [_row(report, sizes[report.label], bool(_gpu_column(every))) for report in every],
    )


def _gpu_column(reports: Sequence[Report]) -> list[str]:
    """Where anything tells how long the kernels took."""
    return ["GPU p50 ms"] if any(report.gpu_times_s for report in reports) else []


def _variant(report: Report) -> str:
    """How a GPU was used: times of different variants are not those of one thing."""
    settings = report.settings
    parts = [f"{settings['provider']} provider"] if "provider" in settings else []
    parts += ["IO binding"] if settings.get("io_binding") == "device" else []
    parts += ["CUDA graph"] if settings.get("cuda_graph") else []
    return f" ({', '.join(parts)})" if parts else ""


def _row(report: Report, size_bytes: int, has_gpu: bool) -> Sequence[object]:
    times = [report.p50_s, report.p90_s, report.p99_s, report.cpu_p50_s]
    times += [report.gpu_p50_s] if has_gpu else []
    return (
        report.label,
        report.precision,
        size_bytes / 1e6,
        report.batch_size,
        *(None if time is None else time * 1e3 for time in times),
        report.throughput,
        None if report.runtime == "torch" else report.load_s,  # of a module that was read before
        report.first_run_s * 1e3,
        len(report.times_s),
    )
