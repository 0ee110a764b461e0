"""MLCommons' LoadGen as a second pair of eyes: its SingleStream and Offline scenarios on a session of ours."""

import math
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import mlperf_loadgen
from pydantic import BaseModel, ConfigDict

from edgefold.errors import EdgefoldError
from edgefold.runtimes.benchmarking import MIN_RUNS, Feeds, batch_size
from edgefold.runtimes.sessions import Session

Scenario = Literal["single-stream", "offline"]
SCENARIOS = {"single-stream": "SingleStream", "offline": "Offline"}
"""Our names and LoadGen's."""
SAMPLES_MORE = 1.1
"""What LoadGen asks for beyond the samples that a duration would take at the expected rate."""


class LoadGenResult(BaseModel):
    """What LoadGen's summary says of one test."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Scenario
    version: str
    valid: bool
    """LoadGen's own verdict: as long and as many queries as it wants."""
    queries: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    """SingleStream: latency of a query; None where LoadGen states none."""
    samples_per_second: float

    def __str__(self) -> str:
        verdict = "valid" if self.valid else "INVALID by its own rules: measure for longer"
        if self.p50_s is None or self.p90_s is None:
            return f"LoadGen Offline: {self.samples_per_second:.1f} samples/s, {verdict}"
        p99 = "" if self.p99_s is None else f", p99 {self.p99_s * 1e3:.3f} ms"
        return (
            f"LoadGen SingleStream: p50 {self.p50_s * 1e3:.3f} ms, p90 {self.p90_s * 1e3:.3f} ms{p99}, "
            f"{self.queries} queries, {verdict}"
        )


def run_loadgen(
    session: Session,
    inputs: Feeds,
    scenario: Scenario = "single-stream",
    *,
    min_duration_s: float = 1.0,
    min_runs: int = MIN_RUNS,
) -> LoadGenResult:
    """Let LoadGen drive a warm session.

    SingleStream asks for one sample after another; each is one run, on these inputs whatever their batch. Offline asks
    for all at once; they are run in batches as large as the inputs.

    Raises:
        InputError: the inputs do not fit.
        EdgefoldError: LoadGen's summary cannot be read.
    """
    run = partial(session.run, inputs)
    run()
    seconds = _time(run)
    size = batch_size(inputs) if scenario == "offline" else 1
    settings = _settings(scenario, size / seconds, min_duration_s, min_runs * size)
    with TemporaryDirectory(prefix="edgefold-loadgen-") as folder:
        _drive(run, size, settings, folder)
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text(encoding="utf-8")
        detail = (Path(folder) / "mlperf_log_detail.txt").read_text(encoding="utf-8")
    return _read(summary, detail, scenario)


def _time(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _settings(scenario: Scenario, rate: float, min_duration_s: float, min_samples: int) -> Any:
    settings = mlperf_loadgen.TestSettings()
    settings.scenario = getattr(mlperf_loadgen.TestScenario, SCENARIOS[scenario])
    settings.mode = mlperf_loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = int(min_duration_s * 1e3)
    settings.min_query_count = min_samples
    if scenario == "offline":  # one query with all samples, which must last as long
        settings.offline_expected_qps = rate
        settings.min_query_count = max(min_samples, math.ceil(rate * min_duration_s * SAMPLES_MORE))
    return settings


def _drive(run: Callable[[], object], size: int, settings: Any, folder: str) -> None:
    """One test; the logs are left in `folder`."""

    def issue(samples: Sequence[Any]) -> None:
        for start in range(0, len(samples), size):
            run()
            done = [mlperf_loadgen.QuerySampleResponse(sample.id, 0, 0) for sample in samples[start : start + size]]
            mlperf_loadgen.QuerySamplesComplete(done)

    output = mlperf_loadgen.LogOutputSettings()
    output.outdir = folder
    output.copy_summary_to_stdout = False
    logs = mlperf_loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    system = mlperf_loadgen.ConstructSUT(issue, lambda: None)
    library = mlperf_loadgen.ConstructQSL(1, 1, lambda indices: None, lambda indices: None)
    try:
        mlperf_loadgen.StartTestWithLogSettings(system, library, settings, logs, "")
    finally:
        mlperf_loadgen.DestroyQSL(library)
        mlperf_loadgen.DestroySUT(system)


def _read(summary: str, detail: str, scenario: Scenario) -> LoadGenResult:
    """The lines of its summary that we look at; times there are nanoseconds."""
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in summary.splitlines())}
    rate = found.get("QPS w/o loadgen overhead") or found.get("Samples per second")
    if rate is None or "Result is" not in found:
        raise EdgefoldError(f"LoadGen's summary is not understood: {' '.join(summary.split())[:300]}")
    single = scenario == "single-stream"
    queries = re.search(r"Processed at least \d+ queries \((\d+)\)", summary)
    version = re.search(r'"loadgen_version", "value": "([^ "]+)', detail)
    stated = {name: float(found[f"{name} percentile latency (ns)"]) / 1e9 if single else None for name in _PERCENTILES}
    return LoadGenResult(
        scenario=scenario,
        version=version[1] if version else "unknown",
        valid=found["Result is"] == "VALID",
        queries=int(queries[1]) if queries else 1,
        p50_s=stated["50.00"],
        p90_s=stated["90.00"],
        p99_s=stated["99.00"] if "Not enough queries processed for 99.0th" not in summary else None,
        samples_per_second=float(rate),
    )


_PERCENTILES = ("50.00", "90.00", "99.00")
