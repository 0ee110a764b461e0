"""One client at a time: a lock on a file, which the system releases when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from datetime import datetime, timezone
from pathlib import Path

from edgefold.runtimes.agent.refusals import Refused

POLL_S = 0.2


def lock_device(path: Path, wait_s: float) -> int:
    """Lock the device for this user; the descriptor that holds the lock until it is closed.

    Args:
        wait_s: how long to wait for another client to be done.

    Raises:
        Refused: another client still has it.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(str(path), os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + wait_s
    while not _try(descriptor):
        if time.monotonic() >= deadline:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise Refused(
                "device",
                f"Another client is measuring on this device ({holder}), and two at once would falsify each other's "
                f"times; it did not end within {wait_s:g} s. Wait until it is done.",
            )
        time.sleep(POLL_S)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(_self()).encode(), 0)
    return descriptor


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _self() -> dict[str, str]:
    return {
        "pid": str(os.getpid()),
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "from": os.environ.get("SSH_CLIENT", "this device").split()[0],
    }


def _holder(descriptor: int) -> str:
    try:
        told = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {told['pid']}, from {told['from']}, since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "it has not said which"
