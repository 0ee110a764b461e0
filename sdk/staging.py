"""Outputs appear whole or not at all: write to a temporary sibling, then rename."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edgefold.errors import InputError
from edgefold.staged_siblings import held_folder, remove_abandoned, sibling


@contextmanager
def staged_folder(out: str | Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty sibling of `out` that becomes `out` when the block succeeds and vanishes when it fails.

    A sibling that outlived its process, which was killed, is removed by the next one that writes to `out`.

    Raises:
        InputError: `out` is a file, or a folder with something in it while `overwrite` is false, or one that is never
            overwritten: the home folder, the one this runs in, those above it.
    """
    target = Path(out).absolute()
    _check_free(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(target)
    staging = sibling(target, "part")
    with held_folder(staging):
        try:
            yield staging
            _replace_folder(staging, target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def staged_file(path: str | Path) -> Iterator[Path]:
    """Yield a sibling path that becomes `path`, replacing what stood there, when the block succeeds."""
    target = Path(path).absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = sibling(target, "part")
    try:
        yield staging
        os.replace(staging, target)
    finally:
        staging.unlink(missing_ok=True)


def check_output_folder(out: str | Path, overwrite: bool = False, reads: Iterable[str | Path] = ()) -> None:
    """Refuse, before any work is done, an output that `staged_folder` would refuse at its end.

    Args:
        reads: what the job reads, which overwriting must not remove.

    Raises:
        InputError: as `staged_folder`, or `out` is or holds one of `reads`.
    """
    check_place(out)
    target = Path(out)
    _check_free(target, overwrite)
    for path in map(Path, reads if overwrite else ()):
        if target.resolve() in (path.resolve(), *path.resolve().parents):
            raise InputError(
                f"The output folder {target} is or holds {path}, which is read, and overwriting removes all that "
                "stands there; choose another folder."
            )


def _check_free(target: Path, overwrite: bool) -> None:
    if target.is_file():
        raise InputError(f"The output folder {target} is an existing file; choose another folder.")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise InputError(
            f"The output folder {target} exists and is not empty; choose another folder, remove it, or ask for "
            "overwriting (--overwrite, overwrite=True)."
        )
    if overwrite and target.is_dir() and target.resolve() in _never_overwritten():
        raise InputError(
            f"The output folder {target.resolve()} is or holds the folder that this runs in, or is the home folder, "
            "and overwriting removes all that stands there; choose another folder."
        )


def check_place(path: str | Path) -> None:
    """Refuse, before any work is done, a path where nothing can be made.

    Raises:
        InputError: below a file, or where this user may not write; with the reason that the system gives.
    """
    target = Path(path).absolute()
    try:
        above = next(folder for folder in target.parents if folder.exists())
        with tempfile.TemporaryDirectory(dir=above, prefix="."):  # as root, only trying tells
            pass
    except OSError as error:
        raise InputError(f"The output {target} cannot be made: {error.strerror}; choose another place.") from None


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content, read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _replace_folder(staging: Path, target: Path) -> None:
    """Rename `staging` to `target`; what stood there is set aside first and restored if the rename fails."""
    if not target.exists():
        os.replace(staging, target)
        return
    retired = sibling(target, "old")
    os.replace(target, retired)
    try:
        os.replace(staging, target)
    except OSError:
        os.replace(retired, target)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _never_overwritten() -> set[Path]:
    """The folder that this runs in, those above it, and the home folder."""
    here = Path.cwd()
    return {here, *here.parents, Path(os.path.expanduser("~")).resolve()}
