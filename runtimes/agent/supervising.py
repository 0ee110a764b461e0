"""The measuring process, seen from outside: started, timed, and its end explained."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgefold.runtimes.agent.messages import Channel
from edgefold.runtimes.agent.refusals import Refused


class Supervisor:
    """Keeps one such process at a time.

    Args:
        lock: the descriptor of the device's lock, which the process shares: the device stays locked while it measures.
    """

    def __init__(self, lock: int) -> None:
        self._lock = lock
        self._worker: subprocess.Popen[bytes] | None = None

    def start(self, program: Path) -> None:
        """Start the process.

        Args:
            program: the agent as a file.
        """
        self._worker = subprocess.Popen(
            [sys.executable, str(program), "work"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._lock],
        )

    def ask(self, request: dict[str, Any], limit_s: float, enter: Callable[[str], None] = lambda phase: None) -> Any:
        """The result of a request.

        Args:
            limit_s: the process is ended when it takes longer.
            enter: told the name of each phase as it begins.

        Raises:
            Refused: what the process refused, or how it ended without an answer.
        """
        worker = self._worker
        if worker is None:
            raise Refused("failed", "No model is open on the device; ask for open first.")
        started = time.monotonic()
        timer = threading.Timer(limit_s, worker.kill)
        timer.start()
        last = _converse(worker, request, enter)
        timer.cancel()
        if last is None:
            worker.wait()  # its own end is what there is to tell
            raise Refused("device", _how_it_ended(worker.returncode, time.monotonic() - started, limit_s))
        if "error" in last:
            raise Refused(last["error"]["kind"], last["error"]["message"])
        return last["result"]

    def kill(self) -> None:
        """End the process, if one runs."""
        if self._worker is not None:
            self._worker.kill()
            self._worker.wait()
            self._worker = None


def _converse(
    worker: subprocess.Popen[bytes], request: dict[str, Any], enter: Callable[[str], None]
) -> dict[str, Any] | None:
    """The worker's last word; None when it died without one."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    channel = Channel(worker.stdout, worker.stdin)
    try:
        channel.say(request)
        while (heard := channel.hear()) is not None:
            if "phase" not in heard[0]:
                return heard[0]
            enter(heard[0]["phase"])
    except (BrokenPipeError, ValueError):
        pass
    return None


def _how_it_ended(returncode: int, seconds: float, limit_s: float) -> str:
    if seconds >= limit_s:
        return f"The device took longer than {limit_s:g} s and was stopped; ask for fewer seconds or a smaller batch."
    how = f"by signal {-returncode}" if returncode < 0 else f"with status {returncode}"
    reason = "; signal 9 mostly means that the memory ran out" if returncode == -signal.SIGKILL else ""
    return f"The measuring process on the device ended {how} after {seconds:.1f} s{reason}."
