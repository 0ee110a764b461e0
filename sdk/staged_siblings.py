"""Hidden siblings of outputs that are being written: locked while their writer lives, removed once it was killed."""

import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform != "win32":
    import fcntl


def sibling(target: Path, suffix: str) -> Path:
    """A hidden path beside `target` that nothing else has: .NAME.8 hexadecimal digits.SUFFIX"""
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.{suffix}")


@contextmanager
def held_folder(path: Path) -> Iterator[None]:
    """Make a folder that `remove_abandoned` leaves alone until the block, or this process, ends."""
    fresh = sibling(path, "new")  # locked before it bears a name that others look for
    fresh.mkdir()
    descriptor = _lock(fresh)
    try:
        fresh.rename(path)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def remove_abandoned(target: Path) -> None:
    """Remove what a killed process left half-written beside `target`: folders named as by `sibling`, held by nobody.

    A retired folder goes only where `target` stands: a process killed between the two renames left nothing else.
    Where the system cannot tell who lives, nothing is removed.
    """
    suffixes = "part|old" if target.exists() else "part"
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{8}}\.({suffixes})")
    for path in [path for path in target.parent.iterdir() if name.fullmatch(path.name) and path.is_dir()]:
        descriptor = _lock(path)
        if descriptor is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the lock until it is closed; None where another has it, or there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # BlockingIOError of a living writer; others of file systems without locks
        os.close(descriptor)
        return None
    return descriptor
