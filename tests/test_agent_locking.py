"""The device's lock: one at a time, released however its holder ends."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgefold.runtimes.agent.locking import lock_device
from edgefold.runtimes.agent.refusals import Refused


def test_the_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    descriptor = lock_device(tmp_path / "deep" / "lock", 0)
    with pytest.raises(Refused, match=rf"process {os.getpid()}, from .*, since 2\S+\).* did not end within 0 s"):
        lock_device(tmp_path / "deep" / "lock", 0)
    os.close(descriptor)
    os.close(lock_device(tmp_path / "deep" / "lock", 0))


def test_it_is_free_when_its_holder_was_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from edgefold.runtimes.agent.locking import lock_device\n"
        "lock_device(Path(sys.argv[1]), 0); print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"locked\n"
    with pytest.raises(Refused, match=f"process {holder.pid}"):
        lock_device(tmp_path / "lock", 0.3)
    holder.kill()
    holder.communicate()
    os.close(lock_device(tmp_path / "lock", 0))


def test_it_waits_as_long_as_it_may(tmp_path: Path) -> None:
    descriptor = lock_device(tmp_path / "lock", 0)
    started = time.monotonic()
    with pytest.raises(Refused, match=r"within 0\.5 s"):
        lock_device(tmp_path / "lock", 0.5)
    assert time.monotonic() - started >= 0.5
    os.close(descriptor)


def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path) -> None:
    descriptor = lock_device(tmp_path / "lock", 0)
    (tmp_path / "lock").write_text("")
    with pytest.raises(Refused, match="has not said which"):
        lock_device(tmp_path / "lock", 0)
    os.close(descriptor)
