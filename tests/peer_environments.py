"""Other tools, each in an environment of its own below the cache, as their pins exclude each other and ours."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from edgefold.packaged.downloads import default_cache

TORCH = f"torch=={torch.__version__.partition('+')[0]}"
"""As it is here, but for the build."""


def own_environment(name: str, pins: Sequence[str]) -> Path:
    """The interpreter of an environment that holds these; made once, the first of them by itself (torch)."""
    folder = default_cache() / name
    if not _stands(folder, pins):
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, pins[0]], check=True)
        subprocess.run([*install, *pins], check=True)
        _note(folder, pins)
    return folder / "bin" / "python"


def own_folder(name: str, pins: Sequence[str]) -> Path:
    """A folder for sys.path that holds these alone, without what they need."""
    folder = default_cache() / name
    if not _stands(folder, pins):
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*install, *pins], check=True)
        _note(folder, pins)
    return folder


def run_in(python: Path, script: Path, *arguments: str) -> str:
    """What the script printed; its error where it fails."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "OLIVE_DISABLE_TELEMETRY": "1"}
    run = [str(python), str(script), *arguments]
    result = subprocess.run(run, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, f"{script.name}: {result.stderr[-2000:]}"
    return result.stdout.strip()


def _stands(folder: Path, pins: Sequence[str]) -> bool:
    done = folder / "pins"
    if done.is_file() and done.read_text() == "\n".join(pins):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _note(folder: Path, pins: Sequence[str]) -> None:
    (folder / "pins").write_text("\n".join(pins))
