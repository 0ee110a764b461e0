"""Maps that an earlier student has for dimensions of another teacher, found by the parameters that both have."""

from collections.abc import Iterator, Mapping, Sequence

from edgefold.dimensions import DimensionGraph
from edgefold.projections import Map
from edgefold.resizing.layouts import Factor, Layout
from edgefold.students import Student


def find_known_maps(graph: DimensionGraph, previous: Student, sizes: Mapping[str, int]) -> dict[str, Map]:
    """The previous student's map of every dimension that both have, at the same old and new size."""
    maps, old_sizes = previous.maps(), previous.structure.sizes
    return {
        name: maps[old]
        for name, old in counterparts(graph.layouts, previous.layouts).items()
        if old in maps and old_sizes[old] == (graph[name].size, sizes.get(name))
    }


def counterparts(layouts: Mapping[str, Layout], others: Mapping[str, Layout]) -> dict[str, str]:
    """Dimension -> what it is called in the other layouts.

    Two are one where a parameter of the same name runs along both at the same place. Sizes do not matter, so that
    layouts after selections will do.
    """
    found: dict[str, str] = {}
    for name in layouts.keys() & others.keys():
        if len(layouts[name]) == len(others[name]):
            for axis, other in zip(layouts[name], others[name], strict=True):
                found.update(_pairs(axis, other))
    return found


def _pairs(axis: Sequence[Factor], other: Sequence[Factor]) -> Iterator[tuple[str, str]]:
    """Of two axes that are built alike; nothing of others."""
    if len(axis) != len(other):
        return
    for one, two in zip(axis, other, strict=True):
        if one.parts or two.parts:
            if len(one.parts) == len(two.parts):
                for part, its_other in zip(one.parts, two.parts, strict=True):
                    yield from _pairs(part, its_other)
        elif one.dimension and two.dimension:
            yield one.dimension, two.dimension
