"""Sizes that hardware likes: multiples of 8, below which products run no faster than at the next multiple."""

import logging
from collections.abc import Mapping, Sequence

from edgefold.errors import InputError

logger = logging.getLogger(__name__)
MULTIPLE = 8
"""Lanes of float32 in AVX2 and what tensor cores ask of float16; int8 prefers 16 to 64."""
MOST_NAMED = 3


def round_up(size: int, multiple: int = MULTIPLE) -> int:
    """The smallest multiple that is not below `size`.

    Raises:
        InputError: one of them is below 1.
    """
    if size < 1 or multiple < 1:
        raise InputError(f"round_up(size={size}, multiple={multiple}) takes whole numbers of at least 1.")
    return -(-size // multiple) * multiple


def warn_of_odd_sizes(sizes: Mapping[str, tuple[int, int]]) -> None:
    """Log the planned sizes that are no multiples of 8; they work, but the next multiple costs no more time.

    Args:
        sizes: name -> (full size, planned size). Where the next multiple is no smaller than the full size, there is
            nothing to advise.
    """
    odd: dict[int, list[str]] = {}
    for name, (full, planned) in sizes.items():
        if planned % MULTIPLE and round_up(planned) < full:
            odd.setdefault(planned, []).append(name)
    for size, names in odd.items():
        logger.warning(
            "The plan gives %s the size %d, no multiple of %d; %d is likely as fast.",
            _enumerate(names),
            size,
            MULTIPLE,
            round_up(size),
        )


def _enumerate(names: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    shown, more = (names, 0) if len(names) <= MOST_NAMED else (names[: MOST_NAMED - 1], len(names) - MOST_NAMED + 1)
    return ", ".join(shown) + (f" and {more} more" if more else "")
