"""Ranges of sizes as they are typed: batch=1:1:8,sequence=1:128:512."""

from collections.abc import Sequence

from edgefold.errors import InputError

Ranges = dict[str, tuple[int, int, int]]


def read_ranges(texts: Sequence[str]) -> list[Ranges]:
    """One profile for each text: dimension -> (least, usual, largest).

    Raises:
        InputError: a text of another form.
    """
    return [dict(_read(part, text) for part in text.split(",")) for text in texts]


def _read(part: str, text: str) -> tuple[str, tuple[int, int, int]]:
    name, _, sizes = part.strip().partition("=")
    try:
        least, usual, largest = (int(size) for size in sizes.split(":"))
    except ValueError:
        raise InputError(
            f"--profile {text!r} cannot be read at {part!r}; give dimension=least:usual:largest, several with commas "
            "between, as in batch=1:1:8,sequence=1:128:512."
        ) from None
    return name, (least, usual, largest)
