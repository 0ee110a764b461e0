"""Where the gates of a student act: every weight that reads a gated dimension, along the axis that reads it."""

from collections.abc import Mapping, Sequence
from math import isclose

import torch
from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.dead_coordinates import find_dead_coordinates, is_normed
from edgefold.dimensions import Dimension, DimensionGraph
from edgefold.errors import InputError
from edgefold.gates.parameter_counts import count_parameters
from edgefold.gates.selection import least_size
from edgefold.gates.settings import Gates
from edgefold.gates.student_gates import GatedAxis, GatePlaces, HardConcreteGates
from edgefold.masks.steps import MaskStep
from edgefold.resizing.layouts import axis_names, coordinates


def check_gates(gates: Gates | None, masking: Sequence[MaskStep]) -> None:
    """Refuse gates beside masks.

    Raises:
        InputError: there are both.
    """
    if gates is not None and masking:
        raise InputError(
            f"Gates({', '.join(gates.where)}) and {masking[0]} do not go together: gates change the shapes of matrices "
            "in which masks count zeros. Train with gates first and mask the folded student in a second run, or leave "
            "one of them out."
        )


def make_gates(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], settings: Gates
) -> HardConcreteGates:
    """The gates of a student's module, all open.

    Args:
        graph: of the module. inputs: example keyword tensors of its forward.

    Raises:
        InputError: a dimension that is not there, or one whose coordinates cannot be closed so that nothing is left of
            them, or a target below what one coordinate of each needs.
    """
    dimensions = _matched(graph, settings)
    axes = [axis for dimension in dimensions for axis in _axes(graph, dimension)]
    _check_removable(module, graph, inputs, dimensions, axes)
    sizes = {dimension.name: dimension.size for dimension in dimensions}
    count = count_parameters(graph.layouts, dict(module.named_parameters()), sizes.keys())
    multiples = {d.name: 1 if d.kind == "heads" else settings.multiple_of for d in dimensions}
    places = GatePlaces(tuple(axes), sizes, multiples, count)
    least = least_size(sizes, count, multiples) / places.whole
    if least > settings.keep and not isclose(least, settings.keep):
        raise InputError(
            f"Gates(keep={settings.keep}) is out of reach: one head and {settings.multiple_of} other coordinates of "
            f"each of {', '.join(sizes)} are {least:.1%} of the parameters along these. Choose keep above "
            f"{least:.3f}, or a smaller multiple_of."
        )
    return HardConcreteGates(settings, places, next(module.parameters()).dtype)


def _matched(graph: DimensionGraph, settings: Gates) -> list[Dimension]:
    found = {d.name: d for pattern in settings.where for d in graph.match(pattern)}
    for dimension in found.values():
        if dimension.kind == "fixed":
            raise InputError(
                f"Gates on {dimension.name} are not possible: it is fixed ({dimension.reason}); gates need a dimension "
                "of kind linear, permutation or heads."
            )
        if is_normed(graph, dimension):
            raise InputError(
                f"Gates on {dimension.name} are not possible: it is normalised as a whole, so that a closed coordinate "
                f'would still count in every mean. Make it smaller with Project("{dimension.name}", size).'
            )
    return list(found.values())


def _axes(graph: DimensionGraph, dimension: Dimension) -> list[GatedAxis]:
    """The axes of weights along which activations of this dimension are contracted."""
    read = {(read.parameter, read.parameter_axis) for read in graph.reads}
    return [
        GatedAxis(member.parameter, member.axis, dimension.name, coordinates(layout, dimension.name))
        for member in dimension.members
        if (member.parameter, member.axis) in read
        and dimension.name in axis_names(layout := graph.layouts[member.parameter][member.axis])
    ]


def _check_removable(
    module: nn.Module,
    graph: DimensionGraph,
    inputs: Mapping[str, Tensor],
    dimensions: Sequence[Dimension],
    axes: Sequence[GatedAxis],
) -> None:
    """Close the first coordinate of each on a copy, and see that nothing depends on it any more."""
    closed = copied(module).cpu().eval()
    with torch.no_grad():
        for axis in axes:
            weight = closed.get_parameter(axis.parameter)
            weight.copy_(axis.scale(weight, (torch.arange(graph[axis.dimension].size) > 0).to(weight)))
    dead = find_dead_coordinates(closed, graph, {name: value.cpu() for name, value in inputs.items()})
    for dimension in dimensions:
        if 0 not in dead.get(dimension.name, torch.tensor([])).tolist():
            raise InputError(
                f"Gates on {dimension.name} are not possible: what runs along it is not read by matrices alone, so "
                "that a closed coordinate would still do something. Leave it out of where=..., and select it in the "
                "plan."
            )
