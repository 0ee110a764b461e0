"""The building process, seen from outside: started, timed, ended; why it ended, with the last lines of its log."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from edgefold import errors
from edgefold.errors import EdgefoldError
from edgefold.exporters.tensorrt.build_requests import BuildFacts, BuildRequest

BUILDING = "edgefold.exporters.tensorrt.building"
TAIL_LINES = 8


def run_build(request: BuildRequest, log: Path, timeout_s: float) -> BuildFacts:
    """Build in a process of its own: what crashes, hangs or eats the memory is that process.

    Args:
        log: file for all that TensorRT says.
        timeout_s: the process is ended when it takes longer.

    Raises:
        InputError, DeviceError: as of `building.build`.
        EdgefoldError: the builder gave up, died or took too long; with the last lines of its log.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.json"), Path(folder, "answer.json")
        request.write(asked)
        command = [sys.executable, "-m", BUILDING, str(asked), str(answered)]
        code = _run(command, log, timeout_s)
        if code is None:
            raise EdgefoldError(
                f"The build of {Path(request.model).name} was ended after {timeout_s:g} s; give it longer, or a lower "
                f"optimization level.{_tail(log)}"
            )
        if code or not answered.is_file():
            raise EdgefoldError(f"The build of {Path(request.model).name} {_how_it_ended(code)}.{_tail(log)}")
        answer = json.loads(answered.read_bytes())
    if "error" in answer:
        kind: type[EdgefoldError] = getattr(errors, answer["error"]["kind"])
        told = _tail(log) if kind is EdgefoldError else ""
        raise kind(f"{answer['error']['message']}{told}")
    return BuildFacts(**answer["facts"])


def _run(command: list[str], log: Path, timeout_s: float) -> int | None:
    """The exit status; None when it was ended for taking too long. Nothing of it is left running."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended without an answer (exit status {code})"
    name = signal.Signals(-code).name
    cause = ", as happens when memory runs out" if -code == signal.SIGKILL else ""
    return f"crashed: the builder was ended by {name}{cause}"


def _tail(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f" Its log ends: {' | '.join(lines[-TAIL_LINES:])}" if lines else " Its log is empty."
