"""What a resized module must be like: the shapes that layouts predict, and a new trace that finds those layouts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.resizing.layouts import (
    AxisLayout,
    Factor,
    Layout,
    axis_names,
    axis_size,
    layout_names,
    resized_layout,
    resized_shape,
)
from edgefold.tracing.unread_operators import unread_values

Shapes = dict[str, tuple[int, ...]]


def predicted_shapes(graph: DimensionGraph, sizes: Mapping[str, int]) -> Shapes:
    """Of every parameter and buffer when some dimensions have new sizes."""
    return {name: resized_shape(layout, sizes) for name, layout in graph.layouts.items()}


def agreeing_trace(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> DimensionGraph | None:
    """The module's own graph, where it finds each parameter laid out as predicted, factor by factor; else None."""
    try:
        traced = trace(module, inputs)
    except InputError:
        return None
    found = {name: _size_tree(layout) for name, layout in traced.layouts.items()}
    predicted = {name: _size_tree(resized_layout(layout, sizes)) for name, layout in graph.layouts.items()}
    differing = {name for name in found.keys() | predicted.keys() if found.get(name) != predicted.get(name)}
    return traced if differing <= _unread(graph) - found.keys() else None


def _unread(graph: DimensionGraph) -> set[str]:
    """The parameters that no output depends on: where the graph stands in for the module they are not met again."""
    nodes = graph.module.graph.nodes
    unread = unread_values(graph.module.graph)
    return graph.layouts.keys() - {
        str(node.target) for node in nodes if node.op == "get_attr" and not all(user in unread for user in node.users)
    }


def _size_tree(layout: Sequence[AxisLayout]) -> list[Any]:
    """The sizes of all factors, and of the parts of sums, without those of size 1.

    A sum within a sum, which is left where a factor beside it has become 1, is written out.
    """
    return [
        [[_size_tree(_summands(factor)), factor.size] if factor.parts else factor.size for factor in _factors(axis)]
        for axis in layout
    ]


def _factors(axis: AxisLayout) -> list[Factor]:
    return [factor for factor in axis if factor.size > 1]


def _summands(factor: Factor) -> list[AxisLayout]:
    found: list[AxisLayout] = []
    for part in factor.parts:
        match _factors(part):
            case [alone] if alone.parts:
                found += _summands(alone)
            case _:
                found.append(part)
    return found


def replacements(graph: DimensionGraph, changed: Mapping[str, int], within: str = "") -> dict[int, list[int]]:
    """Every size that the change replaces -> what it may become: of dimensions, of axes, of products within them.

    Args:
        within: of the parameters of this module alone.
    """
    own = {name: layout for name, layout in graph.layouts.items() if not within or name.startswith(f"{within}.")}
    met = set().union(*map(layout_names, own.values())) if within else set(changed)
    sizes = [(graph[name].size, size) for name, size in changed.items() if name in met]
    found: dict[int, list[int]] = {}
    for old, new in [*sizes, *_axis_sizes(own.values(), changed)]:
        found.setdefault(old, []).append(new)
    return {old: list(dict.fromkeys(new)) for old, new in found.items()}


def _axis_sizes(layouts: Iterable[Layout], changed: Mapping[str, int]) -> list[tuple[int, int]]:
    """Old and new sizes of parameter axes, and of the products they consist of (heads x head_dim)."""
    pairs = []
    for layout in layouts:
        for axis in layout:
            if not changed.keys().isdisjoint(axis_names(axis)):
                for piece in _pieces(axis):
                    (resized,) = resized_layout((piece,), changed)
                    pairs.append((axis_size(piece), axis_size(resized)))
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]


def _pieces(axis: AxisLayout) -> Iterator[AxisLayout]:
    """Every run of successive factors of an axis, and those inside its sums: what a size attribute may state."""
    for start in range(len(axis)):
        for stop in range(start + 1, len(axis) + 1):
            yield axis[start:stop]
    for factor in axis:
        for part in factor.parts:
            yield from _pieces(part)
