"""Binding this process to some of the machine's cores for the time of a measurement."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from edgefold.runtimes.agent.core_binding import bind, check_cores
from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.host_errors import error_of


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
    try:
        check_cores(cores)
    except Refused as refused:
        raise error_of(refused.kind, refused.message) from None
    allowed = os.sched_getaffinity(0)
    bind(cores)
    try:
        yield
    finally:
        bind(allowed)
