"""Several copies of a model at the same time, each in a thread of its own; the same here and on a device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from edgefold.runtimes.agent.measuring import WINDOW, Record, add_waiting, is_short, warm_up
from edgefold.runtimes.agent.memory import read_waited_s

BLOCK_S = 0.5
"""Long against one run: at the end of a block some copies are done before others."""


def measure_concurrently(
    groups: Mapping[str, Sequence[Callable[[], object]]],
    *,
    warmup_s: float,
    min_duration_s: float,
    min_runs: int,
    block_s: float = BLOCK_S,
) -> dict[str, Record]:
    """All of a group at once, in blocks in turn, the order reversed from block to block.

    Args:
        groups: label -> one run of each copy, equally many under each label.
        warmup_s: as `measure_in_turns` takes it.
        min_duration_s: measure each group at least this long, and
        min_runs: at least this many runs of the whole group.
    """
    count = max(map(len, groups.values()))
    records = {label: _warm_up(runs, warmup_s) for label, runs in groups.items()}
    block, order = 0, list(groups)
    with ThreadPoolExecutor(count) as pool:
        while any(is_short(record, count * min_duration_s, min_runs) for record in records.values()):
            for label in order:
                _run_block(pool, groups[label], records[label], block, block_s)
            order.reverse()
            block += 1
    return records


def _warm_up(runs: Sequence[Callable[[], object]], warmup_s: float) -> Record:
    """The first until its times are steady, the others, which share its caches, for as many runs as that looks at."""
    record = warm_up(runs[0], warmup_s)
    for run in runs[1:]:
        for _ in range(WINDOW):
            run()
    return record


def _run_block(
    pool: ThreadPoolExecutor, runs: Sequence[Callable[[], object]], record: Record, block: int, block_s: float
) -> None:
    waited_s = read_waited_s()
    deadline = time.perf_counter() + block_s
    for times in pool.map(partial(_run_until, deadline), runs):
        record.times_s += [wall for wall, _ in times]
        record.cpu_times_s += [cpu for _, cpu in times]
        record.blocks += [block] * len(times)
    add_waiting(record, waited_s)


def _run_until(deadline: float, run: Callable[[], object]) -> list[tuple[float, float]]:
    """Wall time of each run, and CPU time of this thread from the end of one to the end of the next."""
    times = []
    ended, cpu = -math.inf, time.thread_time()
    while ended < deadline:
        started = time.perf_counter()
        run()
        ended, earlier, cpu = time.perf_counter(), cpu, time.thread_time()
        times.append((ended - started, cpu - earlier))
    return times
