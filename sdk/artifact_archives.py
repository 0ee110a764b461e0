"""Artifacts as one deflated file: small on disk where weights are zero; opened by unpacking it, verified, into a cache.

No runtime computes with sparse or packed weights in such a file; only what is stored and sent becomes smaller.
"""

import errno
import hashlib
import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, Protocol

from edgefold.errors import InputError
from edgefold.staging import sha256_file, staged_file, staged_folder

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The date of every entry, so that equal artifacts are equal archives."""
MOST_MANIFEST_BYTES = 1 << 24
PIECE_BYTES = 1 << 20
UNUSED_S = 30 * 24 * 3600
UNPACKED = re.compile(r"[0-9a-f]{32}")
"""The names of folders in the cache."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Record(Protocol):
    """What a file must be."""

    @property
    def sha256(self) -> str: ...

    @property
    def size_bytes(self) -> int: ...


Records = Mapping[str, Record]


def write_archive(folder: Path, names: Iterable[str], out: Path) -> Path:
    """Deflate the named files into `out`, which appears whole or not at all.

    Raises:
        InputError: the disk is full.
    """
    with _while_there_is_room(out), staged_file(out) as staging, zipfile.ZipFile(staging, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name, EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = (folder / name).stat().st_size  # decides whether it needs fields of 64 bits
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, PIECE_BYTES)
    return out


def unpacked_folder(archive: Path, manifest: str, read_records: Callable[[bytes], Records]) -> Path:
    """The folder in $EDGEFOLD_CACHE/artifacts (else edgefold/artifacts below the user's cache) that holds its files.

    It is named by the SHA-256 of the manifest, which names that of every file; so an archive is unpacked once, and
    again only where a file in that folder is no longer what it must be; it is read whole every time.

    Args:
        manifest: the name of the entry that says what the others must be.
        read_records: its content -> the other entries.

    Raises:
        InputError: no archive of an artifact, an entry that is missing, corrupt, not in the manifest, larger than it
            says or outside of the folder, or no room on the disk.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            text = _read_manifest(archive, opened, manifest)
            records = read_records(text)
            _check_names(archive, opened, manifest, records)
            folder = default_cache() / hashlib.sha256(text).hexdigest()[:32]
            if _holds(folder, records):
                _check_content(archive, opened, records)
            else:
                _remove_unused(folder.parent)
                _unpack(archive, opened, manifest, text, records, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive} is no archive of an artifact, or is corrupt ({error}); {_AGAIN}.") from None
    os.utime(folder)
    return folder


def _remove_unused(cache: Path) -> None:
    """Folders of ours that nobody has opened for `UNUSED_S`."""
    for folder in cache.iterdir() if cache.is_dir() else ():
        if UNPACKED.fullmatch(folder.name) and time.time() - folder.stat().st_mtime > UNUSED_S:
            shutil.rmtree(folder, ignore_errors=True)


_AGAIN = "copy it again, or make it again with `edgefold pack`"


def default_cache() -> Path:
    """Where archives are unpacked."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGEFOLD_CACHE") or base / "edgefold") / "artifacts"


def _read_manifest(archive: Path, opened: zipfile.ZipFile, manifest: str) -> bytes:
    if manifest not in opened.namelist():
        raise InputError(f"{archive} has no {manifest}; give an archive that `edgefold pack` wrote.")
    with opened.open(manifest) as file:
        text = file.read(MOST_MANIFEST_BYTES + 1)
    if len(text) > MOST_MANIFEST_BYTES:
        raise InputError(f"The {manifest} of {archive} has more than {MOST_MANIFEST_BYTES} bytes; do not use it.")
    return text


def _check_names(archive: Path, opened: zipfile.ZipFile, manifest: str, records: Records) -> None:
    """Exactly the manifest's files, once each, none outside of the folder, of the sizes that it gives."""
    sizes = {entry.filename: entry.file_size for entry in opened.infolist() if entry.filename != manifest}
    if len(opened.infolist()) != len(sizes) + 1 or sizes.keys() != records.keys():
        others = ", ".join(sorted(sizes.keys() ^ records.keys())) or "a name twice"
        raise InputError(f"The files of {archive} are not those of its {manifest} ({others}); {_AGAIN}.")
    for name, record in records.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or str(path) != name:
            raise InputError(f"{archive} holds {name!r}, which lies outside of its folder; do not use this archive.")
        if sizes[name] != record.size_bytes:
            raise InputError(f"{archive} gives {name} {sizes[name]} bytes, {manifest} {record.size_bytes}; {_AGAIN}.")


def _check_content(archive: Path, opened: zipfile.ZipFile, records: Records) -> None:
    """What is not unpacked again is read all the same: a corrupt copy is told where a sound one was opened before."""
    for name, record in records.items():
        with opened.open(name) as source, open(os.devnull, "wb") as nowhere:
            _check_sum(archive, name, _copy(source, nowhere, record.size_bytes), record.sha256)


def _check_sum(archive: Path, name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise InputError(f"{name} in {archive} is corrupt: its SHA-256 is {found[:12]}…; {_AGAIN}.")


def _holds(folder: Path, records: Records) -> bool:
    paths = {folder / name: record.sha256 for name, record in records.items()}
    return all(path.is_file() and sha256_file(path) == sha256 for path, sha256 in paths.items())


def _unpack(archive: Path, opened: zipfile.ZipFile, manifest: str, text: bytes, records: Records, folder: Path) -> None:
    with _while_there_is_room(folder), staged_folder(folder, overwrite=True) as staging:
        needed = sum(record.size_bytes for record in records.values())
        if needed > (free := shutil.disk_usage(staging).free):
            raise InputError(_no_room(folder, f"{needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"))
        for name, record in records.items():
            path = staging / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(name) as source, path.open("wb") as target:
                found = _copy(source, target, record.size_bytes)
            _check_sum(archive, name, found, record.sha256)
        (staging / manifest).write_bytes(text)


def _copy(source: IO[bytes], target: BinaryIO, size: int) -> str:
    """Copy at most `size` bytes and one more; their SHA-256."""
    digest, left = hashlib.sha256(), size + 1
    while left and (piece := source.read(min(left, PIECE_BYTES))):
        digest.update(piece)
        target.write(piece)
        left -= len(piece)
    return digest.hexdigest()


@contextmanager
def _while_there_is_room(path: Path) -> Iterator[None]:
    """A full disk as an error that says where."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise InputError(_no_room(path, str(error.strerror))) from error


def _no_room(path: Path, what: str) -> str:
    return f"There is no room for {path} ({what}); free some, or set EDGEFOLD_CACHE to a folder on a larger disk."
