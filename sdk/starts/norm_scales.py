"""The scales of RMS norms, moved into the products that read the norm: then the norm commutes with a rotation.

W (g * n(x)) = (W diag(g)) n(x), and n(Q^T x) = Q^T n(x) for an orthogonal Q, while diag(g) does not commute with it: a
small norm has one factor for each coordinate of P^T n(x), and in the basis of the principal directions what g mixes out
of the loud ones drowns the quiet ones. Source: SliceGPT (Ashkboos et al., 2024).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from edgefold.calibration import Moments
from edgefold.dimensions import DimensionGraph
from edgefold.tracing.axis_tracer import LinearRead, NormRead, sizes

aten = torch.ops.aten
PASSING = (
    *(aten.slice.Tensor, aten.alias.default, aten.dropout.default, aten.clone.default, aten.contiguous.default),
    *(aten.to.dtype, aten.view.default, aten.reshape.default, aten._unsafe_view.default),
)
"""Operators that hand on vectors as they are, or some of them, where they leave the last axis whole."""
SMALLEST_SHARE = 1e-6
"""Of the largest factor: a scale with a smaller one cannot be taken off again."""


@dataclass(frozen=True)
class MovableScale:
    """A norm's scale that its readers can take."""

    norm: NormRead
    scale: Tensor
    """g: (d,), float64."""
    nodes: frozenset[Node]
    """The norm's value, and what hands it on to the readers."""
    reads: tuple[LinearRead, ...]


def find_movable_scales(
    graph: DimensionGraph, norms: Sequence[NormRead], tensors: Mapping[str, Tensor]
) -> list[MovableScale]:
    """Of the RMS norms without a shift those that matrices alone read, each of which reads nothing else."""
    found = []
    for norm in norms:
        scale = scale_of(norm, tensors)
        nodes = handed_on(norm.node)
        reads = _readers(graph, nodes)
        is_shared = sum(other.weight == norm.weight for other in norms) > 1
        if (
            scale is not None
            and reads
            and not is_shared
            and all(_takes_a_scale(graph, read, tensors) for read in reads)
        ):
            found.append(MovableScale(norm, scale, nodes, reads))
    return found


def scale_of(norm: NormRead, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """g: (d,) of an RMS norm that only scales, in float64; None for others, and where it cannot be divided by."""
    if norm.centred or norm.bias or not norm.weight:
        return None
    scale = tensors[norm.weight].detach().to("cpu", torch.float64) + norm.offset
    return scale if float(scale.abs().min()) > SMALLEST_SHARE * float(scale.abs().max()) else None


def with_moved_scales(movable: Sequence[MovableScale], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The readers' matrices times the scales, W diag(g), and norms that scale by one; the others as they are."""
    moved = dict(tensors)
    for each in movable:
        assert each.norm.weight is not None
        moved[each.norm.weight] = torch.full_like(tensors[each.norm.weight], 1 - each.norm.offset)
        for read in each.reads:
            weight = tensors[read.parameter].movedim(read.parameter_axis, -1) * each.scale.to(tensors[read.parameter])
            moved[read.parameter] = weight.movedim(-1, read.parameter_axis)
    return moved


def without_scales(
    moments: Mapping[Node, Moments], norms: Sequence[NormRead], tensors: Mapping[str, Tensor]
) -> dict[Node, Moments]:
    """The moments of what norms give before they scale it."""
    divided = dict(moments)
    for norm in norms:
        scale = scale_of(norm, tensors)
        for node in handed_on(norm.node) & moments.keys() if scale is not None else ():
            assert scale is not None
            divided[node] = moments[node].divided(scale)
    return divided


def turned_to_scales(directions: Tensor, scales: Sequence[Tensor]) -> Tensor:
    """P U with the orthogonal U that makes U^T P^T diag(g) P U diagonal: what is left to a small norm that scales by g.

    So a scale that cannot be moved (a tied head reads it) acts as before on what P keeps. Of several scales, each
    relative to its mean, the sum is made diagonal. At full size P stays as it is.

    Args:
        directions: P: (d, p), orthonormal.
        scales: (d,) each.
    """
    if directions.shape[0] == directions.shape[1]:
        return directions
    total = torch.stack([scale / scale.abs().mean() for scale in scales]).sum(0)
    turn: Tensor = torch.linalg.eigh(directions.T @ (total[:, None] * directions)).eigenvectors
    return directions @ turn


def handed_on(start: Node) -> frozenset[Node]:
    """A value, and every other that holds the same vectors."""
    nodes, waiting = {start}, [start]
    while waiting:
        node = waiting.pop()
        further = [user for user in node.users if _hands_on(user, node)]
        nodes |= set(further)
        waiting += further
    return frozenset(nodes)


def _readers(graph: DimensionGraph, nodes: frozenset[Node]) -> tuple[LinearRead, ...]:
    """The products that read these values; none where anything else does."""
    by_node = {read.node: read for read in graph.reads}
    users = [user for node in nodes for user in node.users if user not in nodes]
    if any(user not in by_node or by_node[user].source not in nodes for user in users):
        return ()
    return tuple(by_node[user] for user in users)


def _hands_on(user: Node, node: Node) -> bool:
    if user.target not in PASSING or list(user.all_input_nodes) != [node]:
        return False
    return sizes(user)[-1:] == sizes(node)[-1:]


def _takes_a_scale(graph: DimensionGraph, read: LinearRead, tensors: Mapping[str, Tensor]) -> bool:
    """Whether it contracts the last axis with a matrix that nothing else uses."""
    is_matrix = tensors[read.parameter].dim() == 2 and read.axis == len(sizes(read.source)) - 1
    return is_matrix and list(_uses(graph, read.parameter)) == [read.node]


def _uses(graph: DimensionGraph, parameter: str) -> Iterator[Node]:
    yield from (read.node for read in graph.reads if read.parameter == parameter)
    yield from (node for node, table, _ in graph.lookups if table == parameter)
