"""What a plan needs to know of which activations: whole second moments for projections, blocks for selections."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgefold.dimensions import DimensionGraph
from edgefold.resizing.layouts import axis_names, axis_size, copies
from edgefold.tracing.axis_tracer import LinearRead, sizes


@dataclass(frozen=True)
class CalibrationTargets:
    """The activations whose moments are needed."""

    axes: Mapping[Node, int]
    """For each, the axis along which its vectors lie."""
    blocks: Mapping[Node, Tensor]
    """Of those where a few blocks of the second moment will do, the places of the blocks: see `Moments`."""


def find_targets(
    graph: DimensionGraph,
    resized: Collection[str],
    projected: set[str],
    factorized: Collection[str],
    sources_left_out: Collection[Node] = (),
    *,
    is_whole: bool = False,
) -> CalibrationTargets:
    """What decides the starts of these dimensions, and of the factor pairs in place of these parameters.

    A projection wants the whole second moment wherever its dimension is read or normalised, a factor pair that of its
    inputs. Of what selections alone are decided by, a neuron's importance needs its own square, a head's its own block.

    Args:
        sources_left_out: what norms read, where what they give is all that counts.
        is_whole: whether selections want the whole second moment too.
    """
    readers = {name: readers_of(graph, name) for name in resized}
    axes = {read.source: read.axis for name in readers for read in readers[name]}
    whole = {read.source: read.axis for read in graph.reads if read.parameter in factorized}
    for norm in graph.norms:
        if runs_along(graph, norm.source, -1, projected):
            whole |= {node: len(sizes(node)) - 1 for node in (norm.source, norm.node) if node not in sources_left_out}
    whole |= {node: axis for node, axis in axes.items() if is_whole or runs_along(graph, node, axis, projected)}
    axes = {node: axis for node, axis in (axes | whole).items() if node.op == "call_function"}
    blocks = {node: places for node, places in _blocks(graph, readers).items() if node in axes and node not in whole}
    return CalibrationTargets(axes, blocks)


def readers_of(graph: DimensionGraph, name: str) -> list[LinearRead]:
    """The products that contract this dimension with a parameter."""
    return [read for read in graph.reads if name in axis_names(graph.layouts[read.parameter][read.parameter_axis])]


def runs_along(graph: DimensionGraph, node: Node, axis: int, names: set[str]) -> bool:
    """Whether an axis of a value runs along one of these dimensions."""
    layout = graph.node_layouts.get(node, ())
    return bool(layout) and not names.isdisjoint(axis_names(layout[axis]))


def _blocks(graph: DimensionGraph, readers: Mapping[str, list[LinearRead]]) -> dict[Node, Tensor]:
    """The blocks of every activation that all its readers agree on, one for each coordinate of a dimension."""
    found: dict[Node, Tensor] = {}
    split: set[Node] = set()
    for name in readers:
        for read in readers[name]:
            axis = graph.layouts[read.parameter][read.parameter_axis]
            places = copies(axis, name)
            agrees = torch.equal(found.setdefault(read.source, places), places)
            if not agrees or sizes(read.source)[read.axis] != axis_size(axis):
                split.add(read.source)
    return {node: places for node, places in found.items() if node not in split}
