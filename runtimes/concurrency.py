"""Several sessions at the same time, each in a thread of its own: what a machine does in all, not in one run."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from edgefold.errors import InputError
from edgefold.reports import Report
from edgefold.runtimes.agent.measuring import WINDOW, Record, add_waiting, is_short, warm_up
from edgefold.runtimes.agent.memory import read_waited_s
from edgefold.runtimes.benchmarking import MIN_RUNS, Feeds, make_report
from edgefold.runtimes.devices import read_device_state
from edgefold.runtimes.sessions import Session

BLOCK_S = 0.5
"""Long against one run: at the end of a block some sessions are done before others."""
Times = list[tuple[float, float]]


def benchmark_concurrently(
    sessions: Mapping[str, Sequence[Session]],
    inputs: Feeds,
    *,
    warmup_s: float = 0.2,
    min_duration_s: float = 1.0,
    min_runs: int = MIN_RUNS,
    block_s: float = BLOCK_S,
) -> dict[str, Report]:
    """Measure groups of sessions against each other, all of a group at once, in blocks in turn.

    Throughput is that of the group: samples * sessions / mean time of a run, as each begins its next run at once
    (Little, 1961). `paired_ratio` of the reports is of wall time.

    Args:
        sessions: label -> equally many sessions of one model.
        min_duration_s: measure each group at least this long, and
        min_runs: at least this many runs of the whole group.

    Raises:
        InputError: no sessions, groups that are not equally large, or inputs that do not fit.
    """
    sizes = {len(group) for group in sessions.values()}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(f"Groups of equally many sessions can be compared; got groups of {sorted(sizes) or 'none'}.")
    count = sizes.pop()
    before = read_device_state()
    runs = {label: [partial(session.run, inputs) for session in group] for label, group in sessions.items()}
    records = {label: _warm_up(group, warmup_s) for label, group in runs.items()}
    block, order = 0, list(runs)
    with ThreadPoolExecutor(count) as pool:
        while any(is_short(record, count * min_duration_s, min_runs) for record in records.values()):
            for label in order:
                _run_block(pool, runs[label], records[label], block, block_s)
            order.reverse()
            block += 1
    after = read_device_state()
    return {
        label: make_report(label, sessions[label][0], record, inputs, before, after, concurrency=count)
        for label, record in records.items()
    }


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


def _run_until(deadline: float, run: Callable[[], object]) -> Times:
    """Wall time of each run, and CPU time of this thread from the end of one to the end of the next."""
    times: Times = []
    ended, cpu = -math.inf, time.thread_time()
    while ended < deadline:
        started = time.perf_counter()
        run()
        ended, earlier, cpu = time.perf_counter(), cpu, time.thread_time()
        times.append((ended - started, cpu - earlier))
    return times
