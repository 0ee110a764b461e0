"""What Linux tells of this process: the memory it holds, and how long its threads stood in line for a core."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def read_memory() -> dict[str, int] | None:
    """Bytes held now, and the most that were ever held; None where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return {"now": _bytes(lines["VmRSS"]), "peak": _bytes(lines["VmHWM"])}
    except (OSError, KeyError, ValueError):
        return None


def weigh(open_model: Callable[[], Any], run: Callable[[Any], object]) -> dict[str, int] | None:
    """Bytes held before a model is opened, and the most that were held until it had run twice.

    Only in a process that has done nothing else is that the model's own: memory that was given back is used again.
    """
    before = read_memory()
    opened = open_model()
    for _ in range(2):
        run(opened)
    after = read_memory()
    return {"before_bytes": before["now"], "peak_bytes": after["peak"]} if before and after else None


def read_waited_s() -> float | None:
    """Seconds that all threads together were ready to run and got no core; None where the system does not tell."""
    try:
        return sum(_waited_ns(task) for task in os.listdir("/proc/self/task")) / 1e9
    except (OSError, IndexError, ValueError):
        return None


def _waited_ns(task: str) -> int:
    try:
        with open(f"/proc/self/task/{task}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[1])
    except ProcessLookupError:  # the thread has ended since it was listed
        return 0


def _bytes(text: Any) -> int:
    """ "  1234 kB" """
    return int(text.split()[0]) * 1024
