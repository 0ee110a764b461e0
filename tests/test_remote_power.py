"""The power of a device over SSH: read where a board tells it, none where nothing does."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Loopback, loopback
from remote_devices import INPUTS, SEQUENCE, measure, needs_sshd

from edgefold.artifacts import Artifact
from edgefold.reports import Report
from edgefold.runtimes import benchmark_artifacts

pytestmark = needs_sshd


BOARD = """#!/usr/bin/env python3
# A tegrastats that knows when the measuring process works: its power follows that process's share of a core.
import os, sys, time
from pathlib import Path

def ticks():
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"agent.py\\0work" in (folder / "cmdline").read_bytes() and MARK in (folder / "environ").read_bytes():
                total += sum(map(int, (folder / "stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            pass
    return total

MARK = b"EDGEFOLD_DEVICE_STORE=" + os.environ["EDGEFOLD_DEVICE_STORE"].encode()
interval = int(sys.argv[sys.argv.index("--interval") + 1]) / 1000
last = ticks()
while True:
    time.sleep(interval)
    now = ticks()
    busy = now > last
    last = now
    power = 9000 if busy else 3000
    print(f"RAM 1/2MB (lfb 1x4MB) CPU [5%@1500] cpu@40C VDD_IN {power}mW/1mW VDD_SOC 100mW/100mW", flush=True)
"""


def test_a_board_that_tells_its_power(
    make_artifact: Callable[..., Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "tegrastats").write_text(BOARD)
    (programs / "tegrastats").chmod(0o755)
    artifact = make_artifact(tmp_path / "a", sequence=SEQUENCE)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with loopback(tmp_path / "jetson", path=path) as jetson:
        monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(jetson.folder / "ssh_config"))
        reports = benchmark_artifacts(
            {"a": artifact, "b": artifact}, INPUTS, device=jetson.address(), min_duration_s=0.01, energy_s=3.0
        )
        assert jetson.wait_until_empty() == {}
    for report in reports.values():
        power = report.power
        assert power is not None
        assert power.rails == ("VDD_IN",)
        assert max(power.idle_w) == 3.0
        assert max(power.load_w) == 9.0
        assert power.seconds >= 3.0
        assert 0 < power.net_j < power.gross_j <= 9.0 * power.seconds / power.runs
        assert power.throttled is False
        assert "energy" in str(report)
        assert report.summary()["energy_j"] == power.gross_j
        assert Report.model_validate_json(report.model_dump_json()) == report


def test_a_device_without_a_monitor_has_no_power(device: Loopback, large: Artifact) -> None:
    assert measure(device, large, energy_s=0.5)["a"].power is None
