"""Plain text from .txt files, read line after line, so that a file may be larger than memory; no framework."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgefold.errors import InputError

LONGEST_LINE = 2**20
"""Characters; a longer line is read in such pieces, so that one without line breaks needs no more memory."""


@dataclass(frozen=True)
class TextFiles:
    """The .txt files of one split."""

    files: tuple[Path, ...]

    def lines(self) -> Iterator[str]:
        """Every line of every file, with its line break; the files are read anew in each call.

        Raises:
            InputError: a file that is not UTF-8, with the line.
        """
        for file in self.files:
            yield from read_lines(file)


def find_texts(path: str | Path) -> TextFiles:
    """One .txt file, or all those of a folder and the folders in it, in the order of their paths.

    Raises:
        InputError: there are none, or no line in them that is not blank.
    """
    place = Path(path)
    files = sorted(place.rglob("*.txt")) if place.is_dir() else [place]
    if not files:
        raise InputError(f"The folder {place} holds no .txt file; give one .txt file or a folder with some.")
    if place.is_file() and place.suffix.lower() != ".txt":
        raise InputError(f"The data file {place} is of no known kind; give a .txt file or a folder of them.")
    texts = TextFiles(tuple(files))
    if not any(line.strip() for line in texts.lines()):
        raise InputError(f"{place} holds no text; give at least one line that is not blank.")
    return texts


def read_lines(file: Path) -> Iterator[str]:
    """The lines of one file, with their line breaks; a byte-order mark is left out, and a very long line is cut.

    Raises:
        InputError: it cannot be read as UTF-8; names the line.
    """
    number = 0
    try:
        with open(file, encoding="utf-8-sig", newline="\n") as stream:
            while line := stream.readline(LONGEST_LINE):
                number += 1
                yield line
    except UnicodeDecodeError as error:
        raise InputError(f"{file}, after line {number}: not UTF-8 text: {error.reason}.") from None
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}.") from None
