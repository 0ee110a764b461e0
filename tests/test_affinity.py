"""Cores: every thread is bound for the time of a block, and free again afterwards."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from edgefold.errors import DeviceError, InputError
from edgefold.runtimes.affinity import bound_to

ALLOWED = os.sched_getaffinity(0)


@contextmanager
def another_thread() -> Iterator[int]:
    """One that was there before."""
    begun, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (begun.set(), over.wait()))
    thread.start()
    begun.wait()
    try:
        yield thread.native_id or 0
    finally:
        over.set()
        thread.join()


def test_all_threads_are_bound_and_set_free() -> None:
    core = max(ALLOWED)
    with another_thread() as other:
        with bound_to([core]):
            assert os.sched_getaffinity(0) == os.sched_getaffinity(other) == {core}
        assert os.sched_getaffinity(0) == os.sched_getaffinity(other) == ALLOWED


def test_they_are_set_free_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), bound_to([min(ALLOWED)]):
        _ = 1 / 0
    assert os.sched_getaffinity(0) == ALLOWED


def test_no_cores_bind_nothing() -> None:
    with bound_to(()):
        assert os.sched_getaffinity(0) == ALLOWED


def test_cores_that_are_not_there_are_refused() -> None:
    with pytest.raises(InputError, match=r"Cores 4096 were asked for; this process may use \d"), bound_to([4096]):
        pass


def test_a_system_that_cannot_bind_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(DeviceError, match="cannot bind"), bound_to([0]):
        pass
