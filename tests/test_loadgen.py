"""LoadGen drives our sessions, and its summary is read as it says."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefold.artifacts import Artifact
from edgefold.errors import EdgefoldError, InputError
from edgefold.runtimes import open_session

pytest.importorskip("mlperf_loadgen")  # no wheel for every machine

from edgefold.runtimes.loadgen import LoadGenResult, _read, run_loadgen

Make = Callable[..., Artifact]


class Counting:
    """Counts the runs of a session."""

    def __init__(self, session: Any) -> None:
        self._session, self.runs = session, 0

    def run(self, feeds: Any) -> Any:
        self.runs += 1
        return self._session.run(feeds)


def drive(artifact: Artifact, batch: int, scenario: Any) -> tuple[LoadGenResult, int]:
    inputs = {name: np.ones((batch, 4), np.int64) for name in ("input_ids", "attention_mask")}
    with open_session(artifact) as session:
        counting = Counting(session)
        found = run_loadgen(counting, inputs, scenario, min_duration_s=0.05)  # type: ignore[arg-type]
    return found, counting.runs - 2  # before LoadGen begins: a warm-up, and one to know the time of a run


def test_single_stream_asks_for_one_after_another(make_artifact: Make, tmp_path: Path) -> None:
    found, runs = drive(make_artifact(tmp_path / "a"), 1, "single-stream")
    assert found.queries == runs >= 64
    assert found.p50_s is not None
    assert found.p90_s is not None
    assert 0 < found.p50_s <= found.p90_s
    assert (found.p99_s is None) == (runs < 662)
    assert found.samples_per_second == pytest.approx(1 / found.p50_s, rel=0.9)
    assert found.version[0].isdigit()


def test_offline_gets_all_samples_in_batches(make_artifact: Make, tmp_path: Path) -> None:
    found, runs = drive(make_artifact(tmp_path / "a"), 8, "offline")
    assert runs >= 64
    assert (found.p50_s, found.p99_s) == (None, None)
    assert found.samples_per_second > 0
    assert str(found).startswith("LoadGen Offline: ")


def test_inputs_that_do_not_fit_are_refused_before_loadgen_begins(make_artifact: Make, tmp_path: Path) -> None:
    with open_session(make_artifact(tmp_path / "a")) as session, pytest.raises(InputError, match="got nothing"):
        run_loadgen(session, {})


SUMMARY = """Result is : {verdict}
 * Processed at least 64 queries (700).
QPS w/o loadgen overhead        : 50.0
50.00 percentile latency (ns)   : 20000000
90.00 percentile latency (ns)   : 30000000
99.00 percentile latency (ns)   : 40000000
"""


def test_its_verdict_is_passed_on() -> None:
    good = _read(SUMMARY.format(verdict="VALID"), "", "single-stream")
    assert (good.valid, good.queries, good.p50_s, good.p99_s) == (True, 700, 0.02, 0.04)
    bad = _read(SUMMARY.format(verdict="INVALID"), "", "single-stream")
    assert "INVALID by its own rules" in str(bad)
    assert "p99 40.000 ms" in str(bad)


def test_another_summary_is_not_guessed_at() -> None:
    with pytest.raises(EdgefoldError, match="LoadGen's summary is not understood: nothing"):
        _read("nothing", "", "offline")
