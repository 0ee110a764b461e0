"""Sizes that hardware likes: multiples of 8, below which products run no faster than at the next multiple."""

import logging
from collections.abc import Mapping

from edgefold.errors import InputError

logger = logging.getLogger(__name__)
MULTIPLE = 8
"""Lanes of float32 in AVX2 and what tensor cores ask of float16; int8 prefers 16 to 64."""


def round_up(size: int, multiple: int = MULTIPLE) -> int:
    """The smallest multiple that is not below `size`.

    Raises:
        InputError: one of them is below 1.
    """
    if size < 1 or multiple < 1:
        raise InputError(f"round_up(size={size}, multiple={multiple}) takes whole numbers of at least 1.")
    return -(-size // multiple) * multiple


def warn_of_odd_sizes(sizes: Mapping[str, int]) -> None:
    """Log each planned size that is no multiple of 8; it works, but the next multiple costs no more time."""
    for name, size in sizes.items():
        if size % MULTIPLE:
            logger.warning(
                "The plan gives %s the size %d, no multiple of %d; %d is likely as fast.",
                name,
                size,
                MULTIPLE,
                round_up(size),
            )
