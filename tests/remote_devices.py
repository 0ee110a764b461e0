"""What tests of a device over SSH share: a measurement there, and one that is about to be disturbed."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import SSHD, Loopback

from edgefold.artifacts import Artifact
from edgefold.errors import DeviceError, EdgefoldError
from edgefold.reports import Report
from edgefold.runtimes.remote import uploading
from edgefold.runtimes.remote.connections import Connection
from edgefold.runtimes.remote.measurement import benchmark_on_device

needs_sshd = pytest.mark.skipif(SSHD is None, reason="no sshd here; .ci/run installs it (package openssh-server)")

SEQUENCE = 20_000
PROCEDURE = {"warmup_s": 0.0, "min_duration_s": 0.0, "min_runs": 5, "block_s": 0.0}
INPUTS = {name: np.ones((2, SEQUENCE), np.int64) for name in ("input_ids", "attention_mask")}
AGENT, WORKER = "-c import sys", "agent.py work"


def measure(device: Loopback, artifact: Artifact, address: str | None = None, **options: Any) -> dict[str, Report]:
    procedure = {**PROCEDURE, **options.pop("procedure", {})}
    return benchmark_on_device(
        {"a": artifact},
        INPUTS,
        device=address or device.address(),
        threads=1,
        spinning=False,
        procedure=procedure,
        **options,
    )


class Attempt(threading.Thread):
    """A measurement that is about to be disturbed, and what it raised."""

    def __init__(self, device: Loopback, artifact: Artifact) -> None:
        super().__init__()
        self.error: EdgefoldError | None = None
        self._device, self._artifact = device, artifact
        self.start()

    def run(self) -> None:
        try:
            measure(self._device, self._artifact, procedure={"min_duration_s": 600.0})
        except EdgefoldError as error:
            self.error = error

    def wait_for(self, mark: str) -> int:
        """The id of the device's process with this in its command line, once there is one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for process, command in self._device.processes().items():
                if mark in command:
                    return process
            time.sleep(0.05)
        raise AssertionError(self._device.processes())

    def end(self) -> str:
        self.join(60)
        assert isinstance(self.error, DeviceError), self.error
        return str(self.error)


def ssh_client(device: Loopback) -> int:
    """The process id of this machine's ssh that talks to the device."""
    mark = f"-p\0{device.port}\0".encode()
    (found,) = (
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if (folder / "cmdline").read_bytes().startswith(b"ssh\0") and mark in (folder / "cmdline").read_bytes()
    )
    return found


def assert_the_next_run_is_fine(device: Loopback, artifact: Artifact) -> None:
    assert device.wait_until_empty() == {}
    assert len(measure(device, artifact)["a"].times_s) == 5
    assert device.runs() == []


def count_pieces(monkeypatch: pytest.MonkeyPatch, kill_after: int | None = None) -> list[int]:
    """Sizes of the pieces sent, of 4,000 bytes at most; ssh is killed after so many."""
    sent: list[int] = []
    ask = Connection.ask

    def counting(self: Connection, command: str, payload: bytes = b"", **fields: Any) -> Any:
        if command == "put":
            sent.append(len(payload))
            if len(sent) == kill_after:
                os.kill(self._ssh.pid, signal.SIGKILL)
                self._ssh.wait()
        return ask(self, command, payload, **fields)

    monkeypatch.setattr(uploading, "PIECE_BYTES", 4000)
    monkeypatch.setattr(Connection, "ask", counting)
    return sent
