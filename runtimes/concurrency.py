"""Several sessions at the same time, each in a thread of its own: what a machine does in all, not in one run."""

from collections.abc import Mapping, Sequence
from functools import partial

from edgefold.errors import InputError
from edgefold.reports import Report
from edgefold.runtimes.agent.concurrent_runs import BLOCK_S, measure_concurrently
from edgefold.runtimes.benchmarking import MIN_RUNS, Feeds, make_report
from edgefold.runtimes.devices import read_device_state
from edgefold.runtimes.sessions import Session


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
    (count,) = sizes
    before = read_device_state()
    records = measure_concurrently(
        {label: [partial(session.run, inputs) for session in group] for label, group in sessions.items()},
        warmup_s=warmup_s,
        min_duration_s=min_duration_s,
        min_runs=min_runs,
        block_s=block_s,
    )
    after = read_device_state()
    return {
        label: make_report(label, sessions[label][0], record, inputs, before, after, concurrency=count)
        for label, record in records.items()
    }
