"""Where projections start: principal directions of the activations, for each head what its readers need."""

from collections.abc import Mapping
from fnmatch import fnmatchcase

from torch import Tensor
from torch.fx import Node

from edgefold.calibration import Moments
from edgefold.dimensions import DimensionGraph
from edgefold.graphs.alignment import module_of
from edgefold.head_projections import head_directions
from edgefold.projections import Projection, axis_gram, dimension_moment, principal_directions
from edgefold.resizing.layouts import axis_names, axis_size
from edgefold.starts.calibration_targets import readers_of, runs_along
from edgefold.starts.norm_scales import scale_of, turned_to_scales


def start_projection(
    graph: DimensionGraph,
    name: str,
    size: int,
    axes: Mapping[Node, int],
    moments: Mapping[Node, Moments],
    emphasis: Mapping[str, float],
    tensors: Mapping[str, Tensor],
) -> Projection:
    """Activation PCA over every place where the dimension is read or normalised.

    Centred where every reader has a bias that can take over the lost part of the mean, else about zero. Where all norms
    along the dimension only scale, the basis suits those that keep their scales, see `turned_to_scales`. Where no
    product with a parameter reads it along one axis, it is the weights' own principal directions.

    Args:
        axes: of each activation, the axis along which its vectors lie.
        tensors: the teacher's, with the scales of norms moved where they can be.
    """
    centred = all(read.bias for read in readers_of(graph, name))
    along, weights = [], []
    for node, moment in moments.items():
        axis = graph.node_layouts[node][axes[node]]
        if name in axis_names(axis):
            along.append(dimension_moment(moment.covariance if centred else moment.uncentred, axis, name))
            weights.append(_weight(node, emphasis))
    if not along:
        return Projection(principal_directions(_grams(graph, name, tensors), size))
    directions = principal_directions(along, size, weights)
    norms = [norm for norm in graph.norms if runs_along(graph, norm.source, -1, {name})]
    scales = [scale for norm in norms if (scale := scale_of(norm, tensors)) is not None]
    uneven = [scale for scale in scales if float(scale.max() - scale.min()) > 0 and len(scale) == len(directions)]
    fits = len(scales) == len(norms) and uneven
    return Projection(turned_to_scales(directions, uneven) if fits else directions)


def _grams(graph: DimensionGraph, name: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """(d, d) of every parameter that has the dimension."""
    return [
        axis_gram(tensors[member.parameter], member.axis, graph.layouts[member.parameter][member.axis], name)
        for member in graph[name].members
    ]


def _weight(node: Node, emphasis: Mapping[str, float]) -> float:
    """That of the first pattern which fits the module that computes a node, or one above it."""
    path = module_of(node)
    above = [path.rsplit(".", i)[0] for i in range(path.count(".") + 1)]
    return next((weight for where, weight in emphasis.items() if any(fnmatchcase(p, where) for p in above)), 1.0)


def start_head_projection(
    graph: DimensionGraph,
    name: str,
    heads: str,
    size: int,
    moments: Mapping[Node, Moments],
    tensors: Mapping[str, Tensor],
) -> Projection:
    """Each head's own projection, from what its readers need."""
    reads = [
        (
            moments[read.source].covariance if read.bias else moments[read.source].uncentred,
            tensors[read.parameter].movedim(read.parameter_axis, -1),
            axis,
        )
        for read in readers_of(graph, name)
        if read.source in moments
        and moments[read.source].size == axis_size(axis := graph.layouts[read.parameter][read.parameter_axis])
    ]
    if not reads:
        return Projection(principal_directions(_grams(graph, name, tensors), size))
    return Projection(head_directions(reads, name, heads, size))
