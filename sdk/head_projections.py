"""One projection for each head: the joint rank of a head's value and output matrices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from edgefold.dimensions import DimensionGraph
from edgefold.projections import Map, Projection, Selection, whitened_factors
from edgefold.resizing.layouts import Factor, axis_names, coordinates, copies, layout_names


def leading_heads(graph: DimensionGraph, name: str) -> str:
    """The heads that a linear dimension lies within, if each may have a projection of its own; else "".

    So it is where the heads lead every product of dimensions that a parameter has this one in, every activation that
    runs along it has the heads beside it, and no norm (which the heads share) runs along it: the values of attention.
    """
    if graph[name].kind != "linear":
        return ""
    axes = [axis for layout in graph.layouts.values() for axis in layout if name in axis_names(axis)]
    leaders = {leader for axis in axes for leader in _leaders(axis, name)}
    if len(leaders) != 1:
        return ""
    (leader,) = leaders
    if leader not in graph.names or graph[leader].kind != "heads":
        return ""
    beside = all(
        leader in layout_names(layout) for layout in graph.node_layouts.values() if name in layout_names(layout)
    )
    normed = any(name in layout_names(graph.node_layouts.get(norm.source, ())) for norm in graph.norms)
    return leader if beside and not normed else ""


def _leaders(axis: Sequence[Factor], name: str) -> Iterable[str]:
    """The first factor of every product along an axis that `name` is a factor of."""
    for factor in axis:
        if factor.parts:
            for part in factor.parts:
                yield from _leaders(part, name) if name in axis_names(part) else ()
        elif factor.dimension == name:
            yield axis[0].dimension


def head_directions(
    reads: Iterable[tuple[Tensor, Tensor, Sequence[Factor]]], name: str, heads: str, size: int
) -> Tensor:
    """P: (heads, d, size), orthonormal for each head: what its readers, O_h, need of its values x_h.

    The truncation of O_h that loses least of O_h x_h (whitened SVD) reads x_h through a matrix of this rank alone; P_h
    is an orthonormal basis of what that reads, so P_h^T goes into the values' matrix and nothing else is lost. At full
    size P_h is the identity.

    Args:
        reads: of every product that reads the dimension: the second moment (n, n) of its input, its weight with the
            contracted axis last, and the layout of that axis.
    """
    gathered: dict[int, list[tuple[Tensor, Tensor]]] = {}
    for moment, weight, axis in reads:
        places = copies(axis, name)
        rows = weight.detach().to("cpu", torch.float64).reshape(-1, weight.shape[-1])
        for column in places.T:  # one head, or one query head of a group
            head = int(coordinates(axis, heads)[column[0]])
            gathered.setdefault(head, []).append((rows[:, column], moment[column][:, column]))
    return torch.stack([_directions(gathered[head], size) for head in sorted(gathered)])


def _directions(reads: Sequence[tuple[Tensor, Tensor]], size: int) -> Tensor:
    """P: (d, size) of one head."""
    weight = torch.cat([rows for rows, _ in reads])
    if size == weight.shape[1]:
        return torch.eye(size, dtype=torch.float64)
    moment = torch.stack([each / each.trace().clamp_min(1e-30) for _, each in reads]).mean(0)
    triangular = torch.linalg.qr(weight, mode="r").R  # (d, d) at most, and as good as the weight: R^T R = O^T O
    _, right = whitened_factors(triangular, moment, size)
    basis: Tensor = torch.linalg.qr(right.T).Q
    return basis


def for_kept_heads(maps: Mapping[str, Map], leaders: Mapping[str, str]) -> dict[str, Map]:
    """The same maps where projections of single heads are those of the selected ones.

    Args:
        leaders: the heads that each dimension with such projections lies within.
    """
    result = dict(maps)
    for name, heads in leaders.items():
        kept, own = maps.get(heads), maps[name]
        if isinstance(kept, Selection) and isinstance(own, Projection):
            result[name] = replace(own, matrix=own.matrix[kept.indices])
    return result
