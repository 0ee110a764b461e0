"""Sessions at the same time: sleepers, which need no core, show what is counted without depending on the machine."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgefold.errors import InputError
from edgefold.ratios import paired_ratio
from edgefold.runtimes import benchmark_concurrently

INPUTS = {"input_ids": np.ones((3, 8), np.int64)}
NAP_S = 0.02


class Sleeper:
    """Sleeps instead of computing, and notes who ran in which thread."""

    runtime, device, precision, model_sha256 = "sleep", "cpu", "fp32", None
    load_s = 0.5

    def __init__(self, label: str, nap_s: float = NAP_S) -> None:
        self.label, self._nap_s = label, nap_s
        self.threads: set[int] = set()
        self.spans: list[tuple[float, float]] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.threads.add(threading.get_ident())
        started = time.perf_counter()
        time.sleep(self._nap_s)
        self.spans.append((started, time.perf_counter()))
        return {}

    def settings(self) -> dict[str, Any]:
        return {"threads": 1}


def group(count: int, label: str = "a", nap_s: float = NAP_S) -> list[Any]:
    return [Sleeper(label, nap_s) for _ in range(count)]


def measure(groups: dict[str, list[Any]], **fields: Any) -> Any:
    procedure = {"warmup_s": 0, "min_duration_s": 0.05, "min_runs": 4, "block_s": 0.05}
    return benchmark_concurrently(groups, INPUTS, **{**procedure, **fields})


def test_throughput_is_that_of_all_sessions() -> None:
    report = measure({"a": group(4)})["a"]
    assert (report.concurrency, report.batch_size) == (4, 3)
    assert report.throughput == pytest.approx(4 * 3 / report.mean_s)
    assert report.p50_s >= NAP_S
    assert report.cpu_p50_s < NAP_S / 2  # sleeping takes no CPU time of its thread
    assert report.contended is None or report.before.cores >= 4
    assert "4 at a time" in str(report)


def test_each_session_runs_with_the_others_beside_it() -> None:
    sessions = group(4)
    measure({"a": sessions})
    one, *others = (session.spans for session in sessions)
    for other in others:
        assert any(start < end_here and start_here < end for start_here, end_here in one for start, end in other)
    assert len(set.union(*(session.threads for session in sessions))) > 2


def test_groups_take_turns_and_have_a_paired_ratio_of_wall_time() -> None:
    reports = measure({"slow": group(2, "slow", 0.04), "fast": group(2, "fast", 0.01)}, min_duration_s=0.3)
    assert set(reports["slow"].blocks) == set(reports["fast"].blocks)
    ratio = paired_ratio(reports["slow"], reports["fast"])
    assert ratio.basis == "wall"
    assert 2 < ratio.value < 6  # 4 but for what a late wake-up adds


@pytest.mark.parametrize(
    ("groups", "told"), [({}, "none"), ({"a": []}, r"\[0\]"), ({"a": [1], "b": [1, 2]}, r"\[1, 2\]")]
)
def test_groups_that_cannot_be_compared_are_refused(groups: Any, told: str) -> None:
    with pytest.raises(InputError, match=f"groups of {told}"):
        benchmark_concurrently(groups, INPUTS)
