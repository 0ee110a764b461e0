"""The closed-form sequential start: every product and norm of a student fitted in turn, by least squares.

In the order of execution each operator of the student is corrected so that, on the student's *own* inputs, it produces
what the teacher produces there, mapped into the student's space. A layer that adds to a residual stream is fitted to
the teacher's sum minus what the student's stream holds already, so it also corrects the errors of all layers before it,
and the kept heads and neurons take over the work of the dropped ones.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil

import torch
from torch import Tensor
from torch.fx import Node

from edgefold.calibration import Batch, Moments
from edgefold.dimensions import DimensionGraph
from edgefold.errors import InputError
from edgefold.graphs.replay import Replay
from edgefold.projections import Map, compose
from edgefold.resizing.layouts import AxisLayout, Factor
from edgefold.starts.fit_points import FitPoint, find_fit_points, rows
from edgefold.starts.regression import (
    Coordinates,
    Correction,
    Residuals,
    ridge_correction,
    scale_correction,
    shift_correction,
)

RIDGE = 1e-2
"""Measured on MiniLM-L6. At half width as an embedder: fidelity .812 (.1: .810) from 2400 texts, .756 (.1: .776,
.001: .748) from 600. At a third as a classifier: accuracy .805 (.03: .799, .1: .794, .3: .791) from 512 texts."""
POSITIONS = 2**17
"""Seen with half as many, at hidden size 384: 1.8 GB for the whole process."""
Progress = Callable[[str, int, int, Mapping[str, float]], None]

logger = logging.getLogger(__name__)


def refit_sequentially(
    teacher: DimensionGraph,
    student: DimensionGraph,
    maps: Mapping[str, Map],
    batches: Sequence[Batch],
    *,
    reference: DimensionGraph | None = None,
    layer_map: Mapping[str, str] | None = None,
    frozen: Collection[str] = (),
    factors: Mapping[Node, float] | None = None,
    scales: Mapping[str, Tensor] | None = None,
    ridge: float = RIDGE,
    positions: int = POSITIONS,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The weights of a student after its sequential start, by name; only those that changed. Nothing is modified.

    Both graphs are run a stretch at a time over all batches. Resident are the activations (in the model's own dtype)
    that are still to be read: a few vectors per position of the calibration data; and one second moment in float64.

    A parameter that is read at several places (shared layers, tied embeddings) keeps its start, as do look-up tables,
    the kernels of convolutions (not their biases) and whatever has no counterpart in the teacher; the operators around
    them correct what they can.

    Args:
        teacher, student: traced; the student holds the weights to start from.
        maps: of the dimensions of `reference` into the student's space.
        reference: the full-size graph whose sizes `maps` reduce; the teacher's unless the student has fewer layers.
        layer_map: module paths of the student -> of the teacher, where they differ.
        frozen: parameters that keep their start.
        factors: of operators whose outputs are to be larger than the teacher's, see `find_compensations`.
        scales: of norms, by the name of their weight: factors that the student has in the norm's readers instead.
        ridge: pull towards the start, relative to the inputs' mean variance; see `ridge_correction`.
        positions: unmasked positions of the calibration data to use; beyond that many, batches are left out evenly.

    Raises:
        InputError: activations that are not finite; names the layer.
    """
    reference = reference or teacher
    points, lost = find_fit_points(student, teacher, reference, maps, layer_map or {}, frozen, factors or {})
    if not points:
        logger.warning("No layer of the student could be aligned with the teacher's; it keeps its plain start.")
        return {}
    if lost:
        logger.info("These have no counterpart in the teacher and keep their plain start: %s.", ", ".join(lost))
    used = _within(batches, positions)
    fitting = _Fitting(teacher, student, points, maps, used, ridge, scales or {})
    for done, point in enumerate(points):
        correction = fitting.fit(point)
        if progress:
            figures = {"error_before": correction.before, "error_after": correction.after}
            progress("start", done + 1, len(points), figures)
    names = {name for point in points for name in (point.weight, point.bias) if name}
    return {name: fitting.weights[name] for name in names}


class _Fitting:
    """The walk through both graphs."""

    def __init__(
        self,
        teacher: DimensionGraph,
        student: DimensionGraph,
        points: Sequence[FitPoint],
        maps: Mapping[str, Map],
        batches: Sequence[Batch],
        ridge: float,
        scales: Mapping[str, Tensor],
    ) -> None:
        self._teacher = Replay(teacher.module, batches, held=[point.target for point in points])
        self._student = Replay(student.module, batches)
        self.weights = self._student.weights
        self._maps, self._batches, self._ridge, self._scales = maps, batches, ridge, scales
        self._inputs: tuple[object, Moments] | None = None

    def fit(self, point: FitPoint) -> Correction:
        """Correct one operator's parameters, in place in our own copies."""
        self._student.run_until(point.path[0])
        self._teacher.run_through(point.target)
        correction = self._fit_norm(point) if point.source is None else self._fit_product(point)
        self._teacher.release(point.target)
        return correction

    def _fit_norm(self, point: FitPoint) -> Correction:
        """z -> (1 + a) z + c after the norm: scale and shift are both multiplied by 1 + a, then c is added."""
        coordinates = Coordinates()
        for i in range(len(self._batches)):
            found, residual = self._compare(i, point)
            coordinates.add(found, residual)
        correction = scale_correction(coordinates, point.weight is not None, point.bias is not None)
        assert correction.weight is not None
        for name in filter(None, (point.weight, point.bias)):
            self.weights[name].mul_((1 + correction.weight).to(self.weights[name]))
        self._shift(point, correction)
        return correction

    def _fit_product(self, point: FitPoint) -> Correction:
        """W + D, b + d; where the weight is frozen the bias alone."""
        residuals = Residuals()
        for i in range(len(self._batches)):
            found, residual = self._compare(i, point)
            residuals.add(self._read(i, point) if point.weight else found[:, :0], residual)
        if point.weight is None:
            correction = shift_correction(residuals)
        else:
            correction = ridge_correction(self._input_moments(point), residuals, self._ridge, point.bias is not None)
            assert correction.weight is not None
            weight = self.weights[point.weight].movedim(point.weight_axis, -1)
            weight.add_(correction.weight.to(weight))
        self._shift(point, correction)
        return correction

    def _shift(self, point: FitPoint, correction: Correction) -> None:
        if point.bias and correction.shift is not None:
            self.weights[point.bias].add_(correction.shift.to(self.weights[point.bias]))

    def _compare(self, i: int, point: FitPoint) -> tuple[Tensor, Tensor]:
        """What the student has at the end of the path, and what it lacks there: (n, p) each."""
        batch = self._batches[i]
        found = rows(self._student.attempt(i, point.path), point.axis, batch)
        value = self._teacher.value(i, point.target)
        kept = compose(value.cpu(), point.across, self._maps) if point.across else value
        vectors = rows(kept, point.axis, batch)
        scale = self._scales.get(point.weight or "") if point.source is None else None
        if scale is not None:
            vectors = vectors / scale.to(vectors)
        wanted = mapped(vectors, point.layout, self._maps)
        _check_finite(wanted, f"the teacher at {point.name}")
        _check_finite(found, f"the student at {point.name}")
        return found, point.factor * wanted.to(found.device) - found

    def _read(self, i: int, point: FitPoint) -> Tensor:
        """The product's inputs, (n, in)."""
        return rows(self._student.value(i, point.source), point.axis, self._batches[i])  # type: ignore[arg-type]

    def _input_moments(self, point: FitPoint) -> Moments:
        """Of what the product reads; those of the last source are kept, for query, key and value read the same."""
        key = (point.source, point.axis)
        if self._inputs is None or self._inputs[0] != key:
            first = self._read(0, point)
            moments = Moments(first.shape[1])
            for i in range(len(self._batches)):
                moments.add(self._read(i, point))
            self._inputs = (key, moments)
        return self._inputs[1]


def mapped(vectors: Tensor, layout: AxisLayout, maps: Mapping[str, Map]) -> Tensor:
    """vectors: (n, d), d laid out as `layout` -> (n, p) in the student's space."""
    return compose(vectors.cpu(), ((Factor("", len(vectors)),), layout), maps)


def _check_finite(vectors: Tensor, where: str) -> None:
    if not bool(torch.isfinite(vectors).all()):
        raise InputError(
            f"The sequential start met non-finite activations in {where}; check the model's weights and the "
            "calibration inputs for NaN or overflow."
        )


def _within(batches: Sequence[Batch], positions: int) -> Sequence[Batch]:
    """Every batch, or every second, third, ... so that they hold no more positions than this (they may be sorted)."""
    total = sum(_positions(batch) for batch in batches)
    return batches[:: max(1, ceil(total / positions))]


def _positions(batch: Batch) -> int:
    """Vectors that enter the network: unmasked tokens, or rows of features."""
    mask = batch.get("attention_mask")
    if mask is not None:
        return int(mask.sum())
    first = next(iter(batch.values()))
    return first[..., 0].numel() if first.is_floating_point() else first.numel()
