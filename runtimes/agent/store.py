"""Files on the device under their SHA-256: sent once, resumed where a transfer broke off, verified before use."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from edgefold.runtimes.agent.refusals import Refused

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""No space, the user's quota, the process's file size limit."""
KEEP_BYTES = 4 << 30
"""What the store may hold; files least recently used go first."""


class Store:
    """A folder of finished files `<sha256>` and of begun ones `<sha256>.part`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look_up(self, sha256: str) -> int | None:
        """None when the file is here and sound, else how many of its bytes are: 0, or what an earlier transfer left.

        A finished file whose content has changed since is removed.
        """
        path = self._path(sha256)
        if path.is_file():
            if _sha256(path) == sha256:
                os.utime(path)
                return None
            path.unlink()
        part = self._part(sha256)
        return part.stat().st_size if part.is_file() else 0

    def put(self, sha256: str, offset: int, piece: bytes) -> int:
        """Append a piece; the bytes that are here now.

        Raises:
            Refused: the piece does not follow on what is here, or the disk is full; then the begun file is removed.
        """
        part = self._part(sha256)
        here = part.stat().st_size if part.exists() else 0
        if offset != here:
            raise Refused("failed", f"A piece for byte {offset} of {sha256[:12]} came while {here} bytes are here.")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in FULL:
                raise
            _remove(part)
            raise Refused("device", self._no_space(error)) from None
        return here + len(piece)

    def finish(self, sha256: str) -> None:
        """Verify a begun file and give it its name.

        Raises:
            Refused: its content has another SHA-256; it is removed.
        """
        part = self._part(sha256)
        found = _sha256(part)
        if found != sha256:
            part.unlink()
            raise Refused(
                "device",
                f"A file arrived corrupt: its SHA-256 is {found[:12]}..., not {sha256[:12]}...; what had arrived was "
                "removed. Run the same command again.",
            )
        os.replace(part, self._path(sha256))

    def assemble(self, files: dict[str, str], folder: Path) -> None:
        """Lay files out under their names, as links to the store's.

        Args:
            files: name -> SHA-256.

        Raises:
            Refused: a file is not in the store, or a name leads out of the folder.
        """
        for name, sha256 in files.items():
            path = folder / name
            if os.path.isabs(name) or ".." in Path(name).parts:
                raise Refused("input", f"The file name {name!r} leads out of its folder; rename the file.")
            if self.look_up(sha256) is not None:
                raise Refused("failed", f"{name} ({sha256[:12]}) is not in the store; it has to be sent first.")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self._path(sha256), path)
            except OSError:  # a file system without hard links
                shutil.copyfile(self._path(sha256), path)

    def trim(self, keep_bytes: int = KEEP_BYTES) -> None:
        """Remove the files least recently used until at most `keep_bytes` are left; begun ones count as files."""
        if not self._folder.is_dir():
            return
        paths = sorted(self._folder.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
        kept = 0
        for path in paths:
            kept += path.lstat().st_size
            if kept > keep_bytes:
                _remove(path)

    def _no_space(self, error: OSError) -> str:
        free = shutil.disk_usage(self._folder).free
        return (
            f"The device has no space for the model ({error.strerror}): {free / 1e6:,.0f} MB are free where "
            f"{self._folder} lies, less what limits and quotas take. Free some there, or set EDGEFOLD_DEVICE_STORE on "
            "the device to a folder on a larger disk."
        )

    def _path(self, sha256: str) -> Path:
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise Refused("failed", f"{sha256!r} is no SHA-256 in hexadecimal digits.")
        return self._folder / sha256

    def _part(self, sha256: str) -> Path:
        return self._path(sha256).with_name(sha256 + ".part")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
