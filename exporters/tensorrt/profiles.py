"""Optimization profiles: between which sizes an engine runs, from the named dimensions of the artifact's inputs."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError

Range = tuple[int, int, int]
"""The least size, the one to tune for, and the largest."""
Shapes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input -> its least, usual and largest shape."""

SUM = " + "
"""Between the names of dimensions whose sizes add up."""
DEFAULTS: dict[str, Range] = {
    "batch": (1, 1, 8),
    "sequence": (1, 128, 512),
    "past": (0, 128, 512),
    "encoder_sequence": (1, 128, 512),
}
LIMITED = ("sequence", "past", "encoder_sequence")
"""Dimensions that a table of positions limits."""


def make_profiles(
    inputs: Sequence[TensorSpec], asked: Sequence[Mapping[str, Sequence[int]]], folder: Path
) -> list[Shapes]:
    """The shapes of each profile that was asked for; of one with the defaults where none was.

    Args:
        asked: dimension -> (least, usual, largest); what is left out has its default.
        folder: the artifact's; its configuration may tell how many positions there are.

    Raises:
        InputError: an unknown dimension, one without a range or default, or a range out of order.
    """
    dimensions = find_dimensions(inputs)
    return [_shapes(inputs, _ranges(dimensions, ranges, _positions(folder))) for ranges in asked or ({},)]


def find_dimensions(inputs: Sequence[TensorSpec]) -> list[str]:
    """Names of the dynamic dimensions, in their order."""
    return list(dict.fromkeys(part for spec in inputs for size in spec.shape for part in _parts(size)))


def share_ranges(
    asked: Sequence[Mapping[str, Sequence[int]]], graphs: Mapping[str, Sequence[TensorSpec]]
) -> dict[str, list[dict[str, Sequence[int]]]]:
    """For each graph the ranges asked for, but for those of dimensions that other graphs alone have."""
    own = {name: set(find_dimensions(inputs)) for name, inputs in graphs.items()}
    every = set().union(*own.values())
    return {
        name: [{size: found for size, found in ranges.items() if size not in every - mine} for ranges in asked]
        for name, mine in own.items()
    }


def _ranges(dimensions: Sequence[str], asked: Mapping[str, Sequence[int]], positions: int | None) -> dict[str, Range]:
    if unknown := [name for name in asked if name not in dimensions]:
        raise InputError(
            f"There is no dynamic dimension {unknown[0]!r}; this model has {', '.join(dimensions) or 'none'}."
        )
    if missing := [name for name in dimensions if name not in asked and name not in DEFAULTS]:
        raise InputError(
            f"Between which sizes is {missing[0]}? Give a range, as in {missing[0]}=1:64:256 (least, usual, largest)."
        )
    return {name: _range(name, asked[name]) if name in asked else _default(name, positions) for name in dimensions}


def _range(name: str, sizes: Sequence[int]) -> Range:
    if len(sizes) != 3 or not all(isinstance(size, int) for size in sizes) or not 0 <= sizes[0] <= sizes[1] <= sizes[2]:
        raise InputError(
            f"The range of {name} is {':'.join(map(str, sizes))}; give least:usual:largest, three whole numbers in "
            "order, as in 1:8:32."
        )
    return sizes[0], sizes[1], sizes[2]


def _default(name: str, positions: int | None) -> Range:
    least, usual, largest = DEFAULTS[name]
    if positions is None or name not in LIMITED:
        return least, usual, largest
    return least, min(usual, positions), min(largest, positions)


def _shapes(inputs: Sequence[TensorSpec], ranges: Mapping[str, Range]) -> Shapes:
    def shape(spec: TensorSpec, which: int) -> tuple[int, ...]:
        return tuple(
            size if isinstance(size, int) else sum(ranges[part][which] for part in _parts(size)) for size in spec.shape
        )

    return {spec.name: (shape(spec, 0), shape(spec, 1), shape(spec, 2)) for spec in inputs}


def _parts(size: int | str) -> list[str]:
    """ "past + sequence" -> ["past", "sequence"]."""
    return [] if isinstance(size, int) else size.split(SUM)


def _positions(folder: Path) -> int | None:
    """As many tokens as the model has positions for, where its configuration tells."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_bytes()).get("max_position_embeddings") if path.is_file() else None
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, int) and found > 0 else None
