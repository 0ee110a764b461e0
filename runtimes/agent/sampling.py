"""The board's own monitor beside a measurement: its lines go to the host as they are."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

MONITOR = "tegrastats"
INTERVAL_MS = 200


class Sampler:
    """Passes on a monitor's lines with the phase in which each came."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]) -> None:
        self.phase = "start"
        self._tell = tell
        self._process = subprocess.Popen(
            [MONITOR, "--interval", str(INTERVAL_MS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the monitor; no line comes after this."""
        self.kill()
        self._thread.join()

    def kill(self) -> None:
        """End the monitor."""
        self._process.kill()
        self._process.wait()

    def _pass_on(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, suppress(OSError):  # the host is gone, and so will the agent be
            for line in lines:
                self._tell({"sample": {"phase": self.phase, "line": line.decode(errors="replace").strip()}})


@contextmanager
def sampling(tell: Callable[[dict[str, Any]], None], *, wanted: bool) -> Iterator[Sampler | None]:
    """A monitor for the time of a block; None on a board without one, or where it is not wanted."""
    if not wanted or shutil.which(MONITOR) is None:
        yield None
        return
    sampler = Sampler(tell)
    try:
        yield sampler
    finally:
        sampler.stop()
