"""The steady-state procedure: warm-up, then short blocks in turn; the same on this machine and on a device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

from edgefold.runtimes.agent.memory import read_waited_s

WARMUP_LIMIT_S = 10.0
STEADY_WITHIN = 0.02
"""Warm-up ends when the medians of the last two windows differ by less than this share."""
WINDOW = 5


@dataclass
class Record:
    """What one model gave: seconds of its runs, and the block that each belongs to."""

    first_run_s: float
    warmup_runs: int
    waited_s: float | None = 0.0
    """How long the threads stood in line for a core while it was measured; None where the system does not tell."""
    times_s: list[float] = field(default_factory=list)
    cpu_times_s: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    gpu_times_s: list[float] = field(default_factory=list)
    """Of the kernels alone; empty where nothing tells it."""


def measure_in_turns(
    runs: Mapping[str, Callable[[], object]],
    *,
    warmup_s: float,
    min_duration_s: float,
    min_runs: int,
    block_s: float,
    gpu_times: Mapping[str, Callable[[], float | None]] | None = None,
) -> dict[str, Record]:
    """Warm each model up, then measure all in short blocks in turn, the order reversed from block to block.

    Args:
        runs: label -> one run of that model; it returns when its outputs are on the host.
        warmup_s: the shortest warm-up; it goes on until the median is steady within 2 %, at most 10 s.
        min_duration_s: measure each for at least this long,
        min_runs: and at least this many runs.
        block_s: a model's share of one round, at least one run.
        gpu_times: label -> what tells how many seconds of the last run its kernels took.
    """
    gpu_times = gpu_times or {}
    records = {label: warm_up(run, warmup_s) for label, run in runs.items()}
    block, order = 0, list(runs)
    while any(is_short(record, min_duration_s, min_runs) for record in records.values()):
        for label in order:
            _run_block(runs[label], records[label], block, block_s, gpu_times.get(label))
        order.reverse()
        block += 1
    return records


def is_short(record: Record, min_duration_s: float, min_runs: int) -> bool:
    return len(record.times_s) < min_runs or sum(record.times_s) < min_duration_s


def _run_block(
    run: Callable[[], object],
    record: Record,
    block: int,
    block_s: float,
    gpu_time: Callable[[], float | None] | None,
) -> None:
    """CPU time is read once a run, from the end of one to that of the next: it is a system call, in which Linux likes
    to take the core away, and what runs after that finds its cache cold.
    """
    waited_s = read_waited_s()
    deadline = time.perf_counter() + block_s
    ended, cpu = -math.inf, time.process_time()
    while ended < deadline:
        started = time.perf_counter()
        run()
        ended, earlier, cpu = time.perf_counter(), cpu, time.process_time()
        record.times_s.append(ended - started)
        record.cpu_times_s.append(cpu - earlier)
        record.blocks.append(block)
        if gpu_time is not None and (kernels_s := gpu_time()) is not None:
            record.gpu_times_s.append(kernels_s)
    add_waiting(record, waited_s)


def add_waiting(record: Record, before_s: float | None) -> None:
    """Count what was waited since then."""
    after_s = read_waited_s()
    if record.waited_s is None or before_s is None or after_s is None:
        record.waited_s = None
    else:  # a thread that has ended takes its part with it
        record.waited_s += max(0.0, after_s - before_s)


def warm_up(run: Callable[[], object], warmup_s: float) -> Record:
    """Run until two successive windows have the same median."""
    first = _time(run)
    times: list[float] = []
    started = time.perf_counter()
    while (elapsed := time.perf_counter() - started) < WARMUP_LIMIT_S:
        times.append(_time(run))
        if elapsed >= warmup_s and _is_steady(times):
            break
    return Record(first, len(times) + 1)


def _is_steady(times: list[float]) -> bool:
    if len(times) < 2 * WINDOW:
        return False
    earlier, later = median(times[-2 * WINDOW : -WINDOW]), median(times[-WINDOW:])
    return abs(later - earlier) <= STEADY_WITHIN * earlier


def _time(run: Callable[[], object]) -> float:
    """Wall seconds of one run."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started
