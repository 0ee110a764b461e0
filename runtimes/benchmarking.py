"""Measuring sessions: steady-state warm-up, interleaved blocks, wall and CPU time of every run."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from numpy.typing import NDArray

from edgefold.device_states import DeviceState
from edgefold.errors import InputError
from edgefold.reports import Report
from edgefold.runtimes.agent.measuring import Record, measure_in_turns
from edgefold.runtimes.devices import read_device_state
from edgefold.runtimes.sessions import Session

Feeds = Mapping[str, NDArray[Any]]

MIN_RUNS = 64
"""LoadGen's minimum for a 90th percentile by early stopping."""


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
    for session in sessions.values():
        if address := getattr(session, "address", None):
            raise InputError(
                f"{session.label} is open on {address}, so these times would be those of the network; measure it there "
                f"with benchmark_artifacts(..., device={address!r}) or edgefold bench --device {address}."
            )
    before = read_device_state()
    records = measure_in_turns(
        {name: partial(session.run, inputs) for name, session in sessions.items()},
        warmup_s=warmup_s,
        min_duration_s=min_duration_s,
        min_runs=min_runs,
        block_s=block_s,
        gpu_times={name: partial(getattr, session, "gpu_s", None) for name, session in sessions.items()},
    )
    after = read_device_state()
    return {name: make_report(name, sessions[name], record, inputs, before, after) for name, record in records.items()}


def make_report(
    name: str,
    session: Session,
    record: Record,
    inputs: Feeds,
    before: DeviceState,
    after: DeviceState,
    concurrency: int = 1,
) -> Report:
    """What was measured, with all that decides about speed."""
    return Report(
        label=name,
        runtime=session.runtime,
        device=session.device,
        precision=session.precision,
        model_sha256=session.model_sha256,
        batch_size=batch_size(inputs),
        concurrency=concurrency,
        shapes={key: tuple(value.shape) for key, value in inputs.items()},
        load_s=session.load_s,
        settings=session.settings(),
        before=before,
        after=after,
        **asdict(record),
    )


def batch_size(inputs: Feeds) -> int:
    """The first axis of the first input; 1 where there is none to count."""
    first = next(iter(inputs.values()), None)
    return int(first.shape[0]) if first is not None and first.ndim else 1
