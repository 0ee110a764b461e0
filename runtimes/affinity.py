"""Binding this process to some of the machine's cores for the time of a measurement."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgefold.errors import DeviceError, InputError


@contextmanager
def bound_to(cores: Sequence[int]) -> Iterator[None]:
    """All threads of this process on these cores; on those of before afterwards. () binds nothing.

    Raises:
        InputError: there are no such cores, or the process may not use them.
        DeviceError: this system cannot bind processes.
    """
    if not cores:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise DeviceError("This system cannot bind a process to cores; measure without naming any.")
    allowed = os.sched_getaffinity(0)
    if not set(cores) <= allowed:
        raise InputError(f"Cores {_listed(cores)} were asked for; this process may use {_listed(sorted(allowed))}.")
    _bind(set(cores))
    try:
        yield
    finally:
        _bind(allowed)


def _bind(cores: set[int]) -> None:
    """Threads that a library has started already keep their own affinity, so each is told."""
    for task in Path("/proc/self/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cores)
        except ProcessLookupError:  # it has ended since it was listed
            continue


def _listed(cores: Sequence[int]) -> str:
    return ", ".join(map(str, cores))
