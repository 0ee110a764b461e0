"""Where a student starts: maps from calibrated activations, composed weights, refitted norms, whitened factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgefold.calibration import Batch, Moments, collect_moments, run_batches
from edgefold.dimensions import DimensionGraph
from edgefold.head_projections import for_kept_heads, leading_heads
from edgefold.low_rank import FactorPair, keep_energy
from edgefold.projections import (
    Map,
    Projection,
    Selection,
    axis_energy,
    compose,
    most_important,
    reader_importance,
    whitened_factors,
)
from edgefold.resizing.layouts import Layout, axis_names, axis_size, copies, layout_names, resized_layout
from edgefold.starts.calibration_targets import find_targets, readers_of, runs_along
from edgefold.starts.elimination import Reader, eliminate, open_reader
from edgefold.starts.norm_scales import find_movable_scales, with_moved_scales, without_scales
from edgefold.starts.projection_starts import start_head_projection, start_projection
from edgefold.tracing.axis_tracer import NormRead


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
    scales: Mapping[str, Tensor]
    """By the name of a norm's weight: the factors (d,) of the teacher's norm that the student has in its readers."""


def start_student(
    teacher: nn.Module,
    graph: DimensionGraph,
    sizes: Mapping[str, int],
    emphasis: Mapping[str, Mapping[str, float]],
    factor_pairs: Sequence[FactorPair],
    batches: Sequence[Batch],
    eliminates: bool = False,
    known: Mapping[str, Map] | None = None,
) -> StudentStart:
    """Calibrate and compute all starting values; float64 inside, the teacher's dtype at the end.

    Args:
        sizes: of the dimensions that change.
        emphasis: for those that are projected, what counts for the start: see `Project`.
        eliminates: whether selections keep what the readers would miss most once they are fitted to what is left (see
            `eliminate`); else what contributes most to them as they are.
        known: maps that are given, and so need no calibration: those of an earlier student, heads already selected.
    """
    known = known or {}
    projected = set(emphasis)
    tensors = {**dict(teacher.named_parameters()), **dict(teacher.named_buffers())}
    tensors = {name: tensor.detach() for name, tensor in tensors.items() if name in graph.layouts}
    dtype = next(iter(tensors.values())).dtype
    factorized = {f"{pair.module}.weight": pair for pair in factor_pairs}
    norms = [norm for norm in graph.norms if runs_along(graph, norm.source, -1, projected)]
    movable = find_movable_scales(graph, norms, tensors)
    left_out = {each.norm.source for each in movable}
    targets = find_targets(graph, sizes, projected, factorized, left_out, is_whole=eliminates)
    moments = collect_moments(graph.module, targets.axes, batches, targets.blocks)
    scales = {node: each.scale for each in movable for node in each.nodes}
    moments |= {node: moments[node].divided(scale) for node, scale in scales.items() if node in moments}
    unscaled = without_scales(moments, [norm for norm in norms if norm.node not in scales], tensors)
    tensors = with_moved_scales(movable, tensors)
    leaders = {name: heads for name in projected if (heads := leading_heads(graph, name))}
    maps: dict[str, Map] = {}
    for name, size in sizes.items():
        if name in known:
            maps[name] = known[name]
        elif name in leaders:
            maps[name] = start_head_projection(graph, name, leaders[name], size, moments, tensors)
        elif name in projected:
            maps[name] = start_projection(graph, name, size, targets.axes, unscaled, emphasis[name], tensors)
        else:
            maps[name] = _selection(graph, name, size, moments, tensors, eliminates)
    whole = {name: map for name, map in maps.items() if name not in known or name not in leaders}
    tensors |= _biases_with_lost_means(graph, whole, moments, tensors)
    maps = for_kept_heads(maps, {name: heads for name, heads in leaders.items() if name not in known})
    weights = {
        name: compose(tensor.to("cpu", torch.float64), graph.layouts[name], maps) for name, tensor in tensors.items()
    }
    weights |= _refit_norms(graph, norms, maps, batches, scales)
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
        scales={each.norm.weight: each.scale for each in movable if each.norm.weight},
    )


def _biases_with_lost_means(
    graph: DimensionGraph, maps: Mapping[str, Map], moments: Mapping[Node, Moments], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """b + W (I - P P^T) E[x]: what projections cut off the mean of x reaches the reader through its bias instead."""
    biases: dict[str, Tensor] = {}
    kept = {name: Projection(map.matrix @ map.matrix.mT) for name, map in maps.items() if isinstance(map, Projection)}
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
    moments: Mapping[Node, Moments],
    tensors: Mapping[str, Tensor],
    eliminates: bool,
) -> Selection:
    """The coordinates that matter most to their readers; by the weights' energy where nothing reads them so."""
    readers = readers_of(graph, name)
    eliminates = eliminates and all(tensors[read.parameter].dim() == 2 for read in readers)  # kernels are not fitted
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
    graph: DimensionGraph,
    norms: Sequence[NormRead],
    maps: Mapping[str, Map],
    batches: Sequence[Batch],
    scales: Mapping[Node, Tensor],
) -> dict[str, Tensor]:
    """Scale and shift of each small norm, by regressing P^T y on norm(P^T x) coordinate by coordinate.

    x and y are the teacher's values before and after the norm; y without the scales that went into the readers.
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
        precision = torch.promote_types(value.dtype, torch.float32)
        pair = [t.to("cpu", precision) for t in (inputs[norm.source], value)]
        if node in scales:
            pair[1] = pair[1] / scales[node].to(precision)
        x, y = (_valid(compose(t, last, maps), batch).double() for t in pair)
        s = norm.normalise(x)
        terms = torch.stack([torch.ones_like(s).sum(0), s.sum(0), y.sum(0), (s * s).sum(0), (s * y).sum(0)])
        sums[norm] = sums.get(norm, torch.zeros_like(terms)) + terms

    run_batches(graph.module, batches, observe, [norm.node for norm in norms])
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
