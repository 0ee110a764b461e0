"""Engines and timings of earlier builds, under a key of all that decides: model, TensorRT, device and settings.

A cache that cannot be read or written costs time and nothing else: it is logged, and the build goes on.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgefold.staging import sha256_file, staged_file, staged_folder

ENGINE, FACTS = "model.engine", "build.json"


def default_cache() -> Path:
    """$EDGEFOLD_CACHE/engines, else edgefold/engines below the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGEFOLD_CACHE") or base / "edgefold") / "engines"


def key_of(facts: Mapping[str, Any]) -> str:
    """SHA-256 of facts of JSON's types, in whatever order they come."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def find_engine(cache: Path, key: str, out: Path) -> dict[str, Any] | None:
    """Copy a kept engine to `out` and return its facts; None where there is none, or one that is damaged."""
    folder = cache / key
    try:
        kept = json.loads((folder / FACTS).read_bytes())
        if sha256_file(folder / ENGINE) != kept["sha256"]:
            return None
        shutil.copyfile(folder / ENGINE, out)
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return dict(kept["facts"])


def keep_engine(cache: Path, key: str, engine: Path, facts: Mapping[str, Any]) -> None:
    """Keep an engine; whole or not at all, and the last of several at once."""
    with _costing_time_alone(cache), staged_folder(cache / key, overwrite=True) as folder:
        shutil.copyfile(engine, folder / ENGINE)
        text = json.dumps({"sha256": sha256_file(engine), "facts": dict(facts)}, indent=2)
        (folder / FACTS).write_text(text)


def read_timings(cache: Path, key: str) -> bytes:
    """The kernel timings of earlier builds with this TensorRT on this device; b"" at first."""
    try:
        return (cache / f"{key}.timings").read_bytes()
    except OSError:
        return b""


def keep_timings(cache: Path, key: str, timings: bytes) -> None:
    with _costing_time_alone(cache), staged_file(cache / f"{key}.timings") as path:
        path.write_bytes(timings)


@contextmanager
def _costing_time_alone(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logging.getLogger(__name__).warning("nothing is kept in %s: %s", cache, error.strerror)
