"""Measuring sessions: steady-state warm-up, interleaved blocks, wall and CPU time of every run."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from numpy.typing import NDArray

from edgefold.errors import InputError
from edgefold.reports import DeviceState, Report
from edgefold.runtimes.devices import read_device_state
from edgefold.runtimes.sessions import Session

Feeds = Mapping[str, NDArray[Any]]

MIN_RUNS = 64
"""LoadGen's minimum for a 90th percentile by early stopping."""
WARMUP_LIMIT_S = 10.0
STEADY_WITHIN = 0.02
"""Warm-up ends when the medians of the last two windows differ by less than this share."""
WINDOW = 5


@dataclass
class _Record:
    """What one session gave so far."""

    session: Session
    first_run_s: float
    warmup_runs: int
    times_s: list[float] = field(default_factory=list)
    cpu_times_s: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)


def benchmark(
    session: Session,
    inputs: Feeds,
    *,
    label: str | None = None,
    warmup_s: float = 0.2,
    min_duration_s: float = 1.0,
    min_runs: int = MIN_RUNS,
) -> Report:
    """Measure one session.

    Args:
        inputs: one batch; the first axis of the first input counts the samples.
        warmup_s: the shortest warm-up; it goes on until the median is steady within 2 %, at most 10 s.
        min_duration_s: measure at least this long,
        min_runs: and at least this many runs.

    Raises:
        InputError: the inputs do not fit.
    """
    name = label or session.label
    reports = benchmark_together(
        {name: session}, inputs, warmup_s=warmup_s, min_duration_s=min_duration_s, min_runs=min_runs
    )
    return reports[name]


def benchmark_together(
    sessions: Mapping[str, Session],
    inputs: Feeds,
    *,
    warmup_s: float = 0.2,
    min_duration_s: float = 1.0,
    min_runs: int = MIN_RUNS,
    block_s: float = 0.05,
) -> dict[str, Report]:
    """Measure sessions against each other: short blocks in turn, the order reversed from block to block.

    A slow moment of the machine strikes all of them alike, so `paired_ratio` of the reports holds. Arguments are
    those of `benchmark`, each session being measured for `min_duration_s`.

    Args:
        block_s: a session's share of one round, at least one run.

    Raises:
        InputError: no sessions, or the inputs do not fit one of them.
    """
    if not sessions:
        raise InputError("There is nothing to measure; give at least one session.")
    before = read_device_state()
    records = {name: _warm_up(session, inputs, warmup_s) for name, session in sessions.items()}
    block, order = 0, list(records.values())
    while any(_is_short(record, min_duration_s, min_runs) for record in order):
        for record in order:
            _run_block(record, inputs, block, block_s)
        order.reverse()
        block += 1
    after = read_device_state()
    return {name: _report(name, record, inputs, before, after) for name, record in records.items()}


def _is_short(record: _Record, min_duration_s: float, min_runs: int) -> bool:
    return len(record.times_s) < min_runs or sum(record.times_s) < min_duration_s


def _run_block(record: _Record, inputs: Feeds, block: int, block_s: float) -> None:
    deadline = time.perf_counter() + block_s
    while True:
        wall, cpu = _time_run(record.session, inputs)
        record.times_s.append(wall)
        record.cpu_times_s.append(cpu)
        record.blocks.append(block)
        if time.perf_counter() >= deadline:
            return


def _warm_up(session: Session, inputs: Feeds, warmup_s: float) -> _Record:
    """Run until two successive windows have the same median."""
    first, _ = _time_run(session, inputs)
    times: list[float] = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < WARMUP_LIMIT_S:
        times.append(_time_run(session, inputs)[0])
        if elapsed >= warmup_s and _is_steady(times):
            break
    return _Record(session, first, len(times) + 1)


def _is_steady(times: list[float]) -> bool:
    if len(times) < 2 * WINDOW:
        return False
    earlier, later = median(times[-2 * WINDOW : -WINDOW]), median(times[-WINDOW:])
    return abs(later - earlier) <= STEADY_WITHIN * earlier


def _time_run(session: Session, inputs: Feeds) -> tuple[float, float]:
    """Wall and CPU seconds of one run; a session's run returns when its outputs are on the host."""
    wall, cpu = time.perf_counter(), time.process_time()
    session.run(inputs)
    return time.perf_counter() - wall, time.process_time() - cpu


def _report(name: str, record: _Record, inputs: Feeds, before: DeviceState, after: DeviceState) -> Report:
    session = record.session
    return Report(
        label=name,
        runtime=session.runtime,
        device=session.device,
        precision=session.precision,
        model_sha256=session.model_sha256,
        batch_size=_batch_size(inputs),
        shapes={key: tuple(value.shape) for key, value in inputs.items()},
        times_s=tuple(record.times_s),
        cpu_times_s=tuple(record.cpu_times_s),
        blocks=tuple(record.blocks),
        load_s=session.load_s,
        first_run_s=record.first_run_s,
        warmup_runs=record.warmup_runs,
        settings=session.settings(),
        before=before,
        after=after,
    )


def _batch_size(inputs: Feeds) -> int:
    """The first axis of the first input; 1 where there is none to count."""
    first = next(iter(inputs.values()), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1
