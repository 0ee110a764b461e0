"""Benchmarks: a scripted session records who ran when, so no test depends on how fast anything is."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from types import TracebackType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.ratios import paired_ratio
from edgefold.reports import Report
from edgefold.runtimes import benchmark, benchmark_together
from edgefold.runtimes.agent import measuring

INPUTS = {"input_ids": np.ones((3, 8), np.int64)}


class Clock:
    """Time that moves only when a session works."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0

    def perf_counter(self) -> float:
        return self.wall

    def process_time(self) -> float:
        return self.cpu


class ScriptedSession:
    """Takes the scripted times one after the other, the last for ever; notes every run in a common log."""

    runtime = "scripted"
    device = "cpu"
    precision = "fp32"
    model_sha256: str | None = None
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    load_s = 0.5

    def __init__(self, label: str, clock: Clock, log: list[str], *times_s: float, wall_per_cpu: float = 1.0) -> None:
        self.label = label
        self._clock, self._log = clock, log
        self._times = self._play(times_s or (1e-3,))
        self._wall_per_cpu = wall_per_cpu

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        assert feeds is INPUTS
        self._log.append(self.label)
        time_s = next(self._times)
        self._clock.cpu += time_s
        self._clock.wall += time_s * self._wall_per_cpu
        return {}

    @staticmethod
    def _play(times_s: tuple[float, ...]) -> Iterator[float]:
        yield from times_s
        while True:
            yield times_s[-1]

    def settings(self) -> dict[str, Any]:
        return {"threads": 1, "spinning": False}

    def close(self) -> None: ...

    def __enter__(self) -> "ScriptedSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(measuring, "time", clock)
    return clock


def runs_by_block(report: Report) -> dict[int, int]:
    return {block: len(list(runs)) for block, runs in groupby(report.blocks)}


def test_sessions_take_turns_and_the_order_turns_round(clock: Clock) -> None:
    log: list[str] = []
    sessions = {name: ScriptedSession(name, clock, log) for name in "abc"}
    reports = benchmark_together(sessions, INPUTS, warmup_s=0, min_duration_s=0, min_runs=12, block_s=3.5e-3)
    measured = log[sum(report.warmup_runs for report in reports.values()) :]
    turns = [name for name, _ in groupby(measured)]
    assert "".join(turns) == "abcbabc"  # abc cba abc: where an order ends the next begins
    assert "".join(measured) == "aaaabbbbcccc" + "ccccbbbbaaaa" + "aaaabbbbcccc"


def test_each_session_is_warmed_up_before_anything_is_measured(clock: Clock) -> None:
    log: list[str] = []
    sessions = {name: ScriptedSession(name, clock, log) for name in "ab"}
    reports = benchmark_together(sessions, INPUTS, warmup_s=0, min_duration_s=0, min_runs=1, block_s=0)
    warm_ups = [reports["a"].warmup_runs, reports["b"].warmup_runs]
    assert log == ["a"] * warm_ups[0] + ["b"] * warm_ups[1] + ["a", "b"]


def test_reports_measured_together_share_all_their_blocks(clock: Clock) -> None:
    sessions = {
        "slow": ScriptedSession("slow", clock, [], 7e-3),
        "fast": ScriptedSession("fast", clock, [], 1e-3),
    }
    reports = benchmark_together(sessions, INPUTS, warmup_s=0, min_duration_s=0.5, min_runs=8, block_s=0.02)
    assert set(reports["slow"].blocks) == set(reports["fast"].blocks) == set(range(max(reports["slow"].blocks) + 1))
    assert (reports["slow"].before, reports["slow"].after) == (reports["fast"].before, reports["fast"].after)
    for report, per_block in ((reports["slow"], 3), (reports["fast"], 20)):
        assert runs_by_block(report)[0] == per_block
        assert len(report.times_s) == len(report.cpu_times_s) == len(report.blocks)
    assert paired_ratio(reports["slow"], reports["fast"]).value == pytest.approx(7)


@pytest.mark.parametrize(("min_runs", "min_duration_s"), [(1, 0.0), (50, 0.0), (1, 0.3), (400, 0.3)])
def test_it_measures_as_many_runs_and_as_long_as_asked(clock: Clock, min_runs: int, min_duration_s: float) -> None:
    session = ScriptedSession("a", clock, [])
    report = benchmark(session, INPUTS, warmup_s=0, min_duration_s=min_duration_s, min_runs=min_runs)
    assert len(report.times_s) >= min_runs
    assert sum(report.times_s) >= min_duration_s
    assert len(report.times_s) <= max(min_runs, min_duration_s / 1e-3) + 51  # no more than a block of 50 ms beyond


def test_warm_up_lasts_until_the_times_are_steady(clock: Clock) -> None:
    falling = [1.0 * 0.8**step for step in range(20)]
    report = benchmark(ScriptedSession("a", clock, [], *falling, 1e-3), INPUTS, warmup_s=0, min_duration_s=0)
    assert report.first_run_s == 1.0
    assert report.warmup_runs > len(falling)
    assert set(np.round(report.times_s, 9)) == {1e-3}


def test_warm_up_ends_although_the_times_never_settle(clock: Clock) -> None:
    growing = [1e-3 * 1.1**step for step in range(200)]
    report = benchmark(ScriptedSession("a", clock, [], *growing), INPUTS, min_duration_s=0, min_runs=1)
    warmed_up = sum(growing[: report.warmup_runs])
    assert measuring.WARMUP_LIMIT_S <= warmed_up <= 1.2 * measuring.WARMUP_LIMIT_S


def test_warm_up_takes_at_least_the_time_that_was_asked_for(clock: Clock) -> None:
    report = benchmark(ScriptedSession("a", clock, []), INPUTS, warmup_s=0.4, min_duration_s=0, min_runs=1)
    assert report.warmup_runs >= 400


def test_wall_and_cpu_time_are_kept_apart(clock: Clock) -> None:
    session = ScriptedSession("a", clock, [], 2e-3, wall_per_cpu=3)
    report = benchmark(session, INPUTS, warmup_s=0, min_duration_s=0)
    assert (report.p50_s, report.cpu_p50_s) == pytest.approx((6e-3, 2e-3))
    assert report.contended is True


def test_a_report_says_what_was_measured(clock: Clock) -> None:
    session = ScriptedSession("a", clock, [])
    report = benchmark(session, INPUTS, label="mine", warmup_s=0, min_duration_s=0)
    assert (report.label, report.runtime, report.load_s) == ("mine", "scripted", 0.5)
    assert (report.batch_size, report.shapes) == (3, {"input_ids": (3, 8)})
    assert report.settings == session.settings()
    assert report.throughput == pytest.approx(3 / 1e-3)
    assert benchmark(session, INPUTS, warmup_s=0, min_duration_s=0).label == "a"


def test_nothing_to_measure_is_refused() -> None:
    with pytest.raises(InputError, match="at least one session"):
        benchmark_together({}, INPUTS)


@pytest.mark.parametrize(("inputs", "batch_size"), [({"x": np.ones(())}, 1), ({}, 1), ({"x": np.ones((4, 2))}, 4)])
def test_the_first_axis_counts_the_samples(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, NDArray[Any]], batch_size: int
) -> None:
    def run(feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        clock.wall += 1e-3
        return {}

    session = ScriptedSession("a", clock, [])
    monkeypatch.setattr(session, "run", run)
    assert benchmark(session, inputs, warmup_s=0, min_duration_s=0, min_runs=1).batch_size == batch_size
