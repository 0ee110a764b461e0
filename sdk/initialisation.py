"""Where a student starts: maps from calibrated activations, composed weights, refitted norms, whitened factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgefold.axis_tracer import LinearRead, NormRead
from edgefold.calibration import Batch, Moments, collect_moments, run_batches
from edgefold.dimensions import DimensionGraph
from edgefold.elimination import Reader, eliminate, open_reader
from edgefold.layouts import Layout, axis_names, axis_size, copies, layout_names, resized_layout
from edgefold.low_rank import FactorPair, keep_energy
from edgefold.projections import (
    Map,
    Projection,
    Selection,
    axis_energy,
    compose,
    dimension_moment,
    most_important,
    principal_directions,
    reader_importance,
    whitened_factors,
)


@dataclass(frozen=True)
class StudentStart:
    """The starting values of a student."""

    maps: Mapping[str, Map]
    layouts: Mapping[str, Layout]
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
    is_refitted: bool = False,
) -> StudentStart:
    """Calibrate and compute all starting values; float64 inside, the teacher's dtype at the end.

    Args:
        is_refitted: whether products will be fitted to what is left; then selections keep what the readers would miss
            most (see `eliminate`), else what contributes most to them as they are.
    """
    tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    tensors = {name: tensor.detach() for name, tensor in tensors.items() if name in graph.layouts}
    dtype = next(iter(tensors.values())).dtype
    readers = {name: _readers(graph, name) for name in sizes}
    factorized = {f"{pair.module}.weight": pair for pair in factor_pairs}
    targets = _targets(graph, readers, projected, factorized)
    moments = collect_moments(graph.module, targets, batches)
    maps = {
        name: _projection(graph, name, size, targets, moments)
        if name in projected
        else _selection(graph, name, size, readers[name], moments, tensors, is_refitted)
        for name, size in sizes.items()
    }
    tensors |= _biases_with_lost_means(graph, maps, moments, tensors)
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
    return [read for read in graph.reads if name in axis_names(graph.layouts[read.parameter][read.parameter_axis])]


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
    layout = graph.node_layouts.get(node, ())
    return bool(layout) and not names.isdisjoint(axis_names(layout[-1]))


def _last_axis(node: Node) -> int:
    return len(node.meta["val"].shape) - 1


def _projection(
    graph: DimensionGraph, name: str, size: int, targets: Mapping[Node, int], moments: Mapping[Node, Moments]
) -> Projection:
    """Activation PCA over every place where the dimension is read or normalised.

    Centred where every reader has a bias that can take over the lost part of the mean, else about zero.
    """
    centred = all(read.bias for read in _readers(graph, name))
    along = []
    for node, moment in moments.items():
        axis = graph.node_layouts[node][targets[node]]
        if name in axis_names(axis):
            along.append(dimension_moment(moment.covariance if centred else moment.uncentred, axis, name))
    return Projection(principal_directions(along, size))


def _biases_with_lost_means(
    graph: DimensionGraph, maps: Mapping[str, Map], moments: Mapping[Node, Moments], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """b + W (I - P P^T) E[x]: what projections cut off the mean of x reaches the reader through its bias instead."""
    biases: dict[str, Tensor] = {}
    kept = {name: Projection(map.matrix @ map.matrix.T) for name, map in maps.items() if isinstance(map, Projection)}
    for read in graph.reads:
        axis = graph.layouts[read.parameter][read.parameter_axis]
        if kept.keys().isdisjoint(axis_names(axis)) or not read.bias or read.source not in moments:
            continue
        weight = tensors[read.parameter].movedim(read.parameter_axis, -1).to("cpu", torch.float64)
        bias = biases.get(read.bias, tensors[read.bias]).to("cpu", torch.float64)
        if weight.dim() != 2 or len(weight) != len(bias):  # a convolution sees less than the mean at its borders
            continue
        mean = moments[read.source].mean
        biases[read.bias] = bias + weight @ (mean - compose(mean, (axis,), kept))
    return biases


def _selection(
    graph: DimensionGraph,
    name: str,
    size: int,
    readers: Sequence[LinearRead],
    moments: Mapping[Node, Moments],
    tensors: Mapping[str, Tensor],
    is_refitted: bool,
) -> Selection:
    """The coordinates that matter most to their readers; by the weights' energy where nothing reads them so."""
    eliminates = is_refitted and all(tensors[read.parameter].dim() == 2 for read in readers)  # kernels are not fitted
    opened: list[Reader] = []
    importance = torch.zeros(graph[name].size, dtype=torch.float64)
    for read in readers:
        axis = graph.layouts[read.parameter][read.parameter_axis]
        if read.source not in moments or moments[read.source].size != axis_size(axis):
            continue
        weight, moment = tensors[read.parameter].movedim(read.parameter_axis, -1), moments[read.source]
        if eliminates:
            second = moment.covariance if read.bias else moment.uncentred
            opened.append(open_reader(weight, second, copies(axis, name)))
            continue
        contribution = reader_importance(moment, weight, axis, name)
        importance += contribution / contribution.sum().clamp_min(1e-30)
    if opened:
        return Selection(eliminate(opened, size))
    if not importance.any():
        for member in graph[name].members:
            axis = graph.layouts[member.parameter][member.axis]
            importance += axis_energy(tensors[member.parameter], member.axis, axis, name)
    return most_important(importance, size)


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
        layout = graph.node_layouts[node]
        last: Layout = (*(() for _ in layout[:-1]), layout[-1])
        x, y = (_valid(compose(t.double().cpu(), last, maps), batch) for t in (inputs[norm.source], value))
        s = norm.normalise(x)
        terms = torch.stack([torch.ones_like(s).sum(0), s.sum(0), y.sum(0), (s * s).sum(0), (s * y).sum(0)])
        sums[norm] = sums.get(norm, torch.zeros_like(terms)) + terms

    run_batches(graph.module, batches, observe)
    fitted: dict[str, Tensor] = {}
    for norm, (count, s, y, ss, sy) in sums.items():
        if norm.bias:
            variance = (ss / count - (s / count) ** 2).clamp_min(1e-12)
            scale = (sy / count - s * y / count**2) / variance
            fitted[norm.bias] = (y - scale * s) / count
        else:
            scale = sy / ss.clamp_min(1e-12)
        fitted |= {norm.weight: scale - norm.offset} if norm.weight else {}
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


def _layouts_after_selection(graph: DimensionGraph, maps: Mapping[str, Map]) -> dict[str, Layout]:
    selected = {name: map.size for name, map in maps.items() if isinstance(map, Selection)}
    return {name: resized_layout(layout, selected) for name, layout in graph.layouts.items()}


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
        if name not in free and not projected.isdisjoint(layout_names(graph.layouts[name]))
    }
