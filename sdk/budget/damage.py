"""What a choice would lose before any training: the teacher run with one dimension cut and its readers fitted anew."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, log

import torch
from torch import Tensor
from torch.func import functional_call
from torch.fx import Node

from edgefold.budget.choices import Choices
from edgefold.calibration import Batch, Moments, collect_moments
from edgefold.dimensions import DimensionGraph
from edgefold.distillation.logits import logits_of
from edgefold.distillation.masking import token_mask
from edgefold.projections import Map, Projection, axis_energy, compose
from edgefold.resizing.fields import named_tensors
from edgefold.resizing.layouts import axis_size, copies, layout_names
from edgefold.starts.calibration_targets import CalibrationTargets, find_targets, readers_of
from edgefold.starts.elimination import Reader, eliminate, open_reader
from edgefold.starts.projection_starts import start_projection
from edgefold.tracing.axis_tracer import LinearRead

ROUNDS = 4
"""Of elimination from one size to the next."""
Weights = Mapping[str, Tensor]
Damage = Mapping[str, Mapping[int, float]]
"""Dimension -> size -> share of the variance of the teacher's outputs that is missed."""


def estimate_damage(
    graph: DimensionGraph, choices: Sequence[Choices], calibration: Sequence[Batch], held_out: Sequence[Batch]
) -> Damage:
    """Cut each dimension to each of its sizes, nothing else, and compare what comes out with the teacher's outputs.

    A selection goes by backward elimination, and what reads the dimension is left at the least squares of what stays
    (the structured optimal brain surgeon; ZipLM, Kurtic et al., 2023); a projection is that of the activations' PCA, in
    the full space: P P^T along every axis of the parameters. Every second size is tried, and the logarithm of what lies
    between them is taken as linear. The sum over a plan's dimensions is its estimate.

    Args:
        calibration: batches for the second moments.
        held_out: other batches, on which outputs are compared; positions that an `attention_mask` masks do not count.
    """
    projected = {each.dimension for each in choices if each.kind == "linear"}
    targets = find_targets(graph, [each.dimension for each in choices], projected, (), is_whole=True)
    moments = collect_moments(graph.module, targets.axes, calibration)
    judge = Judge(graph, held_out)
    tensors = named_tensors(graph.module)
    found: dict[str, dict[int, float]] = {}
    for each in choices:
        tried = replace(each, sizes=_every_second(each.sizes))
        cut = _projected(graph, tried, targets, moments, tensors) if each.kind == "linear" else None
        weights = cut or _selected(graph, tried, moments, tensors)
        losses = {size: judge.missed(changed) for size, changed in weights}
        found[each.dimension] = {size: _between(losses, size) for size in each.sizes[:-1]} | {each.sizes[-1]: 0.0}
    return found


def _every_second(sizes: Sequence[int]) -> tuple[int, ...]:
    """From the largest on, and the smallest; the last is the dimension's own."""
    *cut, own = sizes
    return *sorted({*cut[::-2], *cut[:1]}), own


def _between(losses: Mapping[int, float], size: int) -> float:
    """What is lost at a size, log-linearly between the sizes that were tried."""
    if size in losses:
        return losses[size]
    below, above = max(s for s in losses if s < size), min(s for s in losses if s > size)
    share = (size - below) / (above - below)
    return exp((1 - share) * log(max(losses[below], 1e-30)) + share * log(max(losses[above], 1e-30)))


@dataclass
class _Cut:
    """A reader of the dimension under elimination, and where it stands in the model."""

    reader: Reader
    parameter: str
    bias: str | None
    mean: Tensor
    places: Tensor
    is_transposed: bool
    """Whether what is read runs along the matrix's first axis."""


class Judge:
    """The teacher's outputs on the held-out batches, and how far another model's are from them."""

    def __init__(self, graph: DimensionGraph, batches: Sequence[Batch]) -> None:
        self._module, self._batches = graph.module, batches
        self._wanted = [_outputs(self._module, batch) for batch in batches]
        rows = torch.cat(self._wanted)
        self._variance = float((rows - rows.mean(0)).square().sum())

    def missed(self, changed: Weights) -> float:
        """sum |y - y_teacher|^2 over sum |y_teacher - mean|^2, y being the teacher's with some weights changed."""
        return self.missed_by(lambda **batch: functional_call(self._module, dict(changed), (), batch))

    def missed_by(self, model: Callable[..., object]) -> float:
        """The same of another model's outputs."""
        pairs = zip(self._batches, self._wanted, strict=True)
        lost = sum(float((_outputs(model, batch) - wanted).square().sum()) for batch, wanted in pairs)
        return lost / max(self._variance, 1e-30)


def _outputs(model: Callable[..., object], batch: Batch) -> Tensor:
    """The main output's vectors, (n, size), without those at masked positions."""
    with torch.no_grad():
        found = logits_of(model(**batch))
    mask = token_mask(batch, found) if found.dim() > 2 else None
    rows = found[mask.bool()] if mask is not None else found
    return rows.reshape(-1, rows.shape[-1]).double()


def _selected(
    graph: DimensionGraph, choices: Choices, moments: Mapping[Node, Moments], tensors: Weights
) -> Iterable[tuple[int, Weights]]:
    """From the largest cut size to the smallest, the parameters that change."""
    cuts = _open(graph, choices.dimension, moments, tensors)
    if not cuts:
        yield from _dropped(graph, choices, tensors)
        return
    left = torch.arange(graph[choices.dimension].size)
    for size in reversed(choices.sizes[:-1]):
        left = left[eliminate([cut.reader for cut in cuts], size, ROUNDS)]
        changed: dict[str, Tensor] = {}
        for cut in cuts:
            changed |= _refitted(cut, left, tensors)
        yield size, changed


def _open(graph: DimensionGraph, name: str, moments: Mapping[Node, Moments], tensors: Weights) -> list[_Cut]:
    """The matrices that read the dimension; kernels are not fitted."""
    found = []
    for read in readers_of(graph, name):
        axis = graph.layouts[read.parameter][read.parameter_axis]
        moment, weight = moments.get(read.source), tensors[read.parameter]
        if moment is None or weight.dim() != 2 or moment.size != axis_size(axis):
            continue
        places = copies(axis, name)
        second = moment.covariance if read.bias else moment.uncentred
        reader = open_reader(weight.movedim(read.parameter_axis, -1), second, places)
        transposed = read.parameter_axis == 0
        found.append(_Cut(reader, read.parameter, read.bias, moment.mean, places, transposed))
    return found


def _refitted(cut: _Cut, left: Tensor, tensors: Weights) -> dict[str, Tensor]:
    """W with its fitted columns where the dimension stays and zeros elsewhere; the bias takes over the means."""
    weight = tensors[cut.parameter]
    before = (weight.T if cut.is_transposed else weight).to("cpu", torch.float64)
    is_left = torch.zeros(len(cut.places), dtype=torch.bool).index_fill(0, left, True)
    stays = torch.ones(before.shape[1], dtype=torch.bool).index_fill(0, cut.places[~is_left].flatten(), False)
    rows = torch.zeros_like(before)
    rows[:, stays] = cut.reader.weight  # those of other dimensions beside it, in a concatenation, among them
    changed = {cut.parameter: (rows.T if cut.is_transposed else rows).to(weight)}
    if cut.bias:
        bias = tensors[cut.bias].to("cpu", torch.float64) + (before - rows) @ cut.mean
        changed[cut.bias] = bias.to(tensors[cut.bias])
    return changed


def _dropped(graph: DimensionGraph, choices: Choices, tensors: Weights) -> Iterable[tuple[int, Weights]]:
    """Zeros along every parameter axis, the coordinates of least energy first, where no matrix reads the dimension."""
    members = graph[choices.dimension].members
    energy = torch.zeros(graph[choices.dimension].size, dtype=torch.float64)
    axes = {member: graph.layouts[member.parameter][member.axis] for member in members}
    for member in members:
        energy += axis_energy(tensors[member.parameter], member.axis, axes[member], choices.dimension)
    order = energy.argsort()
    for size in reversed(choices.sizes[:-1]):
        gone = order[: len(order) - size]
        changed: dict[str, Tensor] = {}
        for member in members:
            places = copies(axes[member], choices.dimension)[gone].flatten()
            before = changed.get(member.parameter, tensors[member.parameter])
            changed[member.parameter] = before.detach().index_fill(member.axis, places, 0.0)
        yield size, changed


def _projected(
    graph: DimensionGraph,
    choices: Choices,
    targets: CalibrationTargets,
    moments: Mapping[Node, Moments],
    tensors: Weights,
) -> Iterable[tuple[int, Weights]]:
    """P P^T along the dimension in every parameter but those of norms; lost means go into the biases."""
    name = choices.dimension
    norms = {each for norm in graph.norms for each in (norm.weight, norm.bias) if each}
    along = {
        parameter: layout
        for parameter, layout in graph.layouts.items()
        if name in layout_names(layout) and parameter not in norms and parameter in tensors
    }
    for size in reversed(choices.sizes[:-1]):
        start = start_projection(graph, name, size, targets.axes, moments, {}, tensors)
        square = {name: Projection(start.matrix @ start.matrix.mT)}
        changed = {
            parameter: compose(tensors[parameter].to("cpu", torch.float64), layout, square)
            for parameter, layout in along.items()
        }
        for read in readers_of(graph, name):
            if read.bias and read.source in moments and tensors[read.parameter].dim() == 2:
                bias = changed.get(read.bias, tensors[read.bias].to("cpu", torch.float64))
                changed[read.bias] = bias + _lost_mean(graph, read, moments[read.source].mean, square, tensors)
        yield size, {parameter: value.to(tensors[parameter]) for parameter, value in changed.items()}


def _lost_mean(
    graph: DimensionGraph, read: LinearRead, mean: Tensor, square: Mapping[str, Map], tensors: Weights
) -> Tensor:
    """W (I - P P^T) E[x]: (out,)."""
    axis = graph.layouts[read.parameter][read.parameter_axis]
    weight = tensors[read.parameter].movedim(read.parameter_axis, -1).to("cpu", torch.float64)
    return weight @ (mean - compose(mean, (axis,), square))
