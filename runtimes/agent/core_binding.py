"""Binding a process to some of the cores that it may use."""

from __future__ import annotations

import os
from collections.abc import Iterable

from edgefold.runtimes.agent.refusals import Refused


def check_cores(cores: Iterable[int]) -> None:
    """
    Raises:
        Refused: this system cannot bind processes, there are no such cores, or the process may not use them.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise Refused("device", "This system cannot bind a process to cores; measure without naming any.")
    allowed = os.sched_getaffinity(0)
    if not set(cores) <= allowed:
        raise Refused(
            "input", f"Cores {_listed(cores)} were asked for; this process may use {_listed(sorted(allowed))}."
        )


def bind(cores: Iterable[int]) -> None:
    """All threads of this process on these cores.

    Threads that a library has started already keep their own affinity, so each is told.
    """
    for task in os.listdir("/proc/self/task"):
        try:
            os.sched_setaffinity(int(task), set(cores))
        except ProcessLookupError:  # it has ended since it was listed
            continue


def _listed(cores: Iterable[int]) -> str:
    return ", ".join(map(str, cores))
