"""Where a student starts: maps from calibrated activations, composed weights, refitted norms, whitened factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgefold.axis_rules import LinearRead, NormRead, argument
from edgefold.calibration import Batch, Moments, collect_moments, run_batches
from edgefold.dimensions import DimensionGraph, Factor
from edgefold.low_rank import FactorPair, keep_energy
from edgefold.projections import (
    Map,
    Projection,
    Selection,
    compose,
    most_important,
    principal_directions,
    reader_importance,
    whitened_factors,
)


@dataclass(frozen=True)
class StudentStart:
    """The starting values of a student."""

    maps: Mapping[str, Map]
    layouts: Mapping[str, tuple[tuple[Factor, ...], ...]]
    """Of every parameter, after selections: what is left for the projections to map."""
    sources: Mapping[str, Tensor]
    """Projected parameters before their projections, after selections."""
    weights: Mapping[str, Tensor]
    """Every parameter and floating-point buffer at its new size."""
    factors: Mapping[str, tuple[Tensor, Tensor]]
    """(out, rank) and (rank, in) for each factorized module; those left dense are not here."""


def start_student(
    teacher: nn.Module,
    graph: DimensionGraph,
    sizes: Mapping[str, int],
    projected: set[str],
    factor_pairs: Sequence[FactorPair],
    batches: Sequence[Batch],
) -> StudentStart:
    """Calibrate and compute all starting values; float64 inside, the teacher's dtype at the end."""
    tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    tensors = {name: tensor.detach() for name, tensor in tensors.items() if name in graph.layouts}
    dtype = next(iter(tensors.values())).dtype
    readers = {name: _readers(graph, name) for name in sizes}
    factorized = {f"{pair.module}.weight": pair for pair in factor_pairs}
    moments = collect_moments(graph.module, _targets(graph, readers, projected, factorized), batches)
    maps = {
        name: _projection(graph, name, size, moments)
        if name in projected
        else _selection(graph, name, size, readers, moments, tensors)
        for name, size in sizes.items()
    }
    tensors |= _biases_with_lost_means(graph, maps, readers, moments, tensors)
    weights = {
        name: compose(tensor.to("cpu", torch.float64), graph.layouts[name], maps) for name, tensor in tensors.items()
    }
    norms = [norm for norm in graph.norms if _runs_along(graph, norm.source, projected)]
    weights |= _refit_norms(graph, norms, maps, batches)
    factors = {}
    for name, pair in list(factorized.items()):
        kept = keep_energy(pair, *_factors(graph, name, pair, weights[name], maps, moments, batches))
        if kept is None:  # dense, and composed like any other weight
            del factorized[name]
        else:
            factors[pair.module] = kept
    return StudentStart(
        maps=maps,
        layouts=_layouts_after_selection(graph, maps),
        sources=_sources(graph, tensors, maps, projected, norms, factorized),
        weights={name: weight.to(dtype) for name, weight in weights.items()},
        factors=factors,
    )


def _readers(graph: DimensionGraph, name: str) -> list[LinearRead]:
    """The products that contract this dimension with a parameter."""
    return [
        read
        for read in graph.reads
        if name in {factor.dimension for factor in graph.layouts[read.parameter][read.parameter_axis]}
    ]


def _targets(
    graph: DimensionGraph,
    readers: Mapping[str, list[LinearRead]],
    projected: set[str],
    factorized: Mapping[str, FactorPair],
) -> dict[Node, int]:
    """The activations whose moments are needed, each with its axis."""
    targets = {read.source: read.axis for name in readers for read in readers[name]}
    targets |= {read.source: read.axis for read in graph.reads if read.parameter in factorized}
    for norm in graph.norms:
        if _runs_along(graph, norm.source, projected):
            targets |= {node: _last_axis(node) for node in (norm.source, norm.node)}
    return {node: axis for node, axis in targets.items() if node.op == "call_function"}


def _runs_along(graph: DimensionGraph, node: Node, names: set[str]) -> bool:
    layout = graph.node_layouts[node]
    return bool(layout) and len(layout[-1]) == 1 and layout[-1][0].dimension in names


def _last_axis(node: Node) -> int:
    return len(node.meta["val"].shape) - 1


def _projection(graph: DimensionGraph, name: str, size: int, moments: Mapping[Node, Moments]) -> Projection:
    """Activation PCA over every place where the dimension is read or normalised.

    Centred where every reader has a bias that can take over the lost part of the mean, else about zero.
    """
    along = [
        moment
        for node, moment in moments.items()
        if any([factor.dimension for factor in axis] == [name] for axis in graph.node_layouts[node])
        and moment.size == graph[name].size
    ]
    centred = all(read.bias for read in _readers(graph, name))
    return Projection(principal_directions(along, size, centred))


def _biases_with_lost_means(
    graph: DimensionGraph,
    maps: Mapping[str, Map],
    readers: Mapping[str, list[LinearRead]],
    moments: Mapping[Node, Moments],
    tensors: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """b + W (I - P P^T) E[x]: what a projection cuts off the mean of x reaches the reader through its bias instead."""
    biases: dict[str, Tensor] = {}
    projections = {name: map for name, map in maps.items() if isinstance(map, Projection)}
    for name, projection in projections.items():
        for read in readers[name]:
            layout = graph.layouts[read.parameter][read.parameter_axis]
            if not read.bias or len(layout) > 1 or read.source not in moments or tensors[read.parameter].dim() != 2:
                continue
            mean = moments[read.source].mean
            lost = mean - projection.matrix @ (projection.matrix.T @ mean)
            bias = biases.get(read.bias, tensors[read.bias]).to("cpu", torch.float64)
            weight = tensors[read.parameter].movedim(read.parameter_axis, -1).to("cpu", torch.float64)
            biases[read.bias] = bias + weight @ lost
    return biases


def _selection(
    graph: DimensionGraph,
    name: str,
    size: int,
    readers: Mapping[str, list[LinearRead]],
    moments: Mapping[Node, Moments],
    tensors: Mapping[str, Tensor],
) -> Selection:
    """The coordinates that contribute most to their readers; by the weights' energy where nothing reads them so."""
    importance = torch.zeros(graph[name].size, dtype=torch.float64)
    for read in readers[name]:
        layout = graph.layouts[read.parameter][read.parameter_axis]
        position = [factor.dimension for factor in layout].index(name)
        weight = tensors[read.parameter].movedim(read.parameter_axis, -1)
        if read.source in moments and moments[read.source].size == prod(factor.size for factor in layout):
            contribution = reader_importance(moments[read.source], weight, layout, position)
            importance += contribution / contribution.sum().clamp_min(1e-30)
    if not importance.any():
        for member in graph[name].members:
            importance += _energy(tensors[member.parameter], graph.layouts[member.parameter], name)
    return most_important(importance, size)


def _energy(tensor: Tensor, layout: Sequence[Sequence[Factor]], name: str) -> Tensor:
    """The squared norm of each slice of a parameter along a dimension."""
    factors = [factor for axis in layout for factor in axis]
    position = [factor.dimension for factor in factors].index(name)
    grid = tensor.detach().to("cpu", torch.float64).reshape([factor.size for factor in factors])
    return grid.movedim(position, 0).reshape(factors[position].size, -1).square().sum(1)


def _refit_norms(
    graph: DimensionGraph, norms: Sequence[NormRead], maps: Mapping[str, Map], batches: Sequence[Batch]
) -> dict[str, Tensor]:
    """Scale and shift of each small norm, by regressing P^T y on norm(P^T x) coordinate by coordinate.

    x and y are the teacher's values before and after the norm.
    """
    sums: dict[NormRead, Tensor] = {}
    by_node = {id(norm.node): norm for norm in norms}
    inputs: dict[Node, Tensor] = {}

    def observe(node: Node, value: Any, batch: Batch) -> None:
        inputs.update({node: value} if any(norm.source is node for norm in norms) else {})
        norm = by_node.get(id(node))
        if norm is None:
            return
        projection = maps[graph.node_layouts[node][-1][0].dimension]
        x = _valid(projection.apply(inputs[norm.source].double().cpu(), value.dim() - 1), batch)
        y = _valid(projection.apply(value.double().cpu(), value.dim() - 1), batch)
        s = nn.functional.layer_norm(x, (x.shape[-1],), eps=float(argument(node, 4, "eps", 1e-5)))
        terms = torch.stack([torch.ones_like(s).sum(0), s.sum(0), y.sum(0), (s * s).sum(0), (s * y).sum(0)])
        sums[norm] = sums.get(norm, torch.zeros_like(terms)) + terms

    run_batches(graph.module, batches, observe)
    fitted: dict[str, Tensor] = {}
    for norm, (count, s, y, ss, sy) in sums.items():
        variance = (ss / count - (s / count) ** 2).clamp_min(1e-12)
        scale = (sy / count - s * y / count**2) / variance
        fitted |= {norm.weight: scale} if norm.weight else {}
        fitted |= {norm.bias: (y - scale * s) / count} if norm.bias else {}
    return fitted


def _valid(rows: Tensor, batch: Batch) -> Tensor:
    """(n, p) without masked positions."""
    mask = batch.get("attention_mask")
    if mask is not None and rows.dim() >= 3 and rows.shape[:2] == mask.shape:
        return rows[mask.bool()].reshape(-1, rows.shape[-1])
    return rows.reshape(-1, rows.shape[-1])


def _factors(
    graph: DimensionGraph,
    name: str,
    pair: FactorPair,
    weight: Tensor,
    maps: Mapping[str, Map],
    moments: Mapping[Node, Moments],
    batches: Sequence[Batch],
) -> tuple[Tensor, Tensor]:
    """Whitened SVD of a (small) weight; a look-up table is whitened by how often its rows are used."""
    tables = [(ids, table) for _, table, ids in graph.lookups if table == name]
    if tables:
        return whitened_factors(weight.T, _frequencies(tables[0][0], weight.shape[0], batches), pair.rank)
    moment = torch.eye(weight.shape[1], dtype=torch.float64)
    for read in graph.reads:
        if read.parameter == name and read.source in moments:
            layout = graph.layouts[name][read.parameter_axis]
            moment = compose(moments[read.source].uncentred, (layout, layout), maps)
    return whitened_factors(weight, moment, pair.rank)


def _frequencies(ids: Node, rows: int, batches: Sequence[Batch]) -> Tensor:
    """How often each row of a table is looked up, plus one, where the indices are an input; else uniform."""
    counts = torch.ones(rows, dtype=torch.float64)
    for batch in batches:
        if str(ids.target) in batch:
            used = batch[str(ids.target)].reshape(-1).cpu()
            counts += torch.bincount(used, minlength=rows).double()
    return counts / counts.sum()


def _layouts_after_selection(
    graph: DimensionGraph, maps: Mapping[str, Map]
) -> dict[str, tuple[tuple[Factor, ...], ...]]:
    selected = {name: map.size for name, map in maps.items() if isinstance(map, Selection)}
    return {
        name: tuple(tuple(Factor(f.dimension, selected.get(f.dimension, f.size)) for f in axis) for axis in layout)
        for name, layout in graph.layouts.items()
    }


def _sources(
    graph: DimensionGraph,
    tensors: Mapping[str, Tensor],
    maps: Mapping[str, Map],
    projected: set[str],
    norms: Sequence[NormRead],
    factorized: Mapping[str, FactorPair],
) -> dict[str, Tensor]:
    """Parameters that projections act on; norms (of the small space) and factor pairs are free, and not here."""
    free = {name for norm in norms for name in (norm.weight, norm.bias) if name}
    free |= {name for name in tensors for pair in factorized.values() if name.startswith(f"{pair.module}.")}
    selections = {name: map for name, map in maps.items() if isinstance(map, Selection)}
    return {
        name: compose(tensor, graph.layouts[name], selections).to(next(iter(graph.module.parameters())).dtype)
        for name, tensor in tensors.items()
        if name not in free and any(factor.dimension in projected for axis in graph.layouts[name] for factor in axis)
    }
