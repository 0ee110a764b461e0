"""Numerical agreement of a session with a reference, output by output, on real batches."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgefold.errors import InputError

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
LEAST_VARIANCE = 1e-6
"""Of the squares of a reference; what varies less counts as this much."""


class OutputAgreement(BaseModel):
    """How one output differs from the reference's."""

    model_config = ConfigDict(frozen=True)

    max_error: float
    """Largest absolute difference."""
    mean_error: float
    """Mean absolute difference."""
    cosine: float
    """Of all values of all batches, as one vector."""
    argmax_agreement: float
    """Share of vectors along the last axis whose largest value stands at the same place; along the second of maps that
    are called logits or output, (rows, classes, height, width)."""
    largest: float = 0.0
    """Largest absolute value of the reference."""
    missed: float = 0.0
    """Sum of squared differences over that of the reference's about its mean, of all values of all batches."""
    width: int = 1
    """Size of that axis: of one value there is no choice whose argmax could tell anything."""
    divergence: float | None = None
    """Of outputs called logits: mean KL(reference ‖ this one) of the softmax along the last axis, in nats.

    Vectors of zeros alone, which is what padding is made, are left out.
    """


class Verification(BaseModel):
    """Agreement of all outputs over all batches."""

    model_config = ConfigDict(frozen=True)

    outputs: dict[str, OutputAgreement]
    batches: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether every output's largest error is within the tolerance; NaN never is."""
        return all(output.max_error <= self.tolerance for output in self.outputs.values())


def verify_outputs(
    candidate: Run, reference: Run, batches: Iterable[Arrays], *, tolerance: float = 1e-4
) -> Verification:
    """Run both on every batch and compare the outputs they share.

    Args:
        candidate, reference: `session.run`, or any function of a dict of arrays that returns one.
        batches: real inputs, ragged in batch and sequence.
        tolerance: largest absolute difference allowed.

    Raises:
        InputError: no batches, no output in common, shapes that differ, or an output without values.
    """
    sums: dict[str, list[_Sums]] = {}
    widths: dict[str, int] = {}
    count = 0
    for count, batch in enumerate(batches, 1):
        found, expected = candidate(batch), reference(batch)
        shared = [name for name in expected if name in found]
        if not shared:
            raise InputError(f"The two have no output in common: {', '.join(found)} against {', '.join(expected)}.")
        for name in shared:
            if found[name].shape != expected[name].shape:
                raise InputError(f"Output {name} has the shape {found[name].shape} against {expected[name].shape}.")
            if not expected[name].size:
                raise InputError(
                    f"Output {name} of batch {count} is empty: {expected[name].shape}; nothing is compared."
                )
            a, b = (_choices_last(name, np.asarray(each, np.float64)) for each in (found[name], expected[name]))
            widths[name] = b.shape[-1] if b.ndim > 1 else 1
            sums.setdefault(name, []).append(_sum_up(a, b, "logits" in name))
    if not count:
        raise InputError("Verification needs at least one batch; got none.")
    return Verification(
        outputs={name: _agreement(parts, widths[name]) for name, parts in sums.items()},
        batches=count,
        tolerance=tolerance,
    )


class _Sums(NamedTuple):
    """What is kept of one batch of one output, so that memory does not grow with the batches."""

    max_error: float
    error: float
    values: int
    product: float
    found_square: float
    expected_square: float
    same_argmax: int
    vectors: int
    largest: float
    divergence: float
    divergent: int
    squared_error: float
    total: float


def _choices_last(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A map's classes, (rows, classes, height, width), along the last axis."""
    is_map = values.ndim > 3 and name.startswith(("logits", "output"))
    return np.moveaxis(values, 1, -1) if is_map else values


def _sum_up(a: NDArray[Any], b: NDArray[Any], is_logits: bool) -> _Sums:
    """a: what was found. b: what the reference gives."""
    with np.errstate(invalid="ignore"):  # inf - inf: the NaN that comes of it fails the verification
        error = np.abs(a - b)
        same = np.atleast_1d(a).argmax(-1) == np.atleast_1d(b).argmax(-1)
        return _Sums(
            max_error=float(error.max()),
            error=float(error.sum()),
            values=a.size,
            product=float(np.vdot(a, b)),
            found_square=float(np.vdot(a, a)),
            expected_square=float(np.vdot(b, b)),
            same_argmax=int(same.sum()),
            vectors=int(same.size),
            largest=float(np.abs(b).max()),
            squared_error=float(np.vdot(error, error)),
            total=float(b.sum()),
            **_divergences(a, b, is_logits),
        )


def _divergences(found: NDArray[Any], expected: NDArray[Any], is_logits: bool) -> dict[str, Any]:
    """Sum of Σ p (log p - log q) over the vectors of logits, and how many those are."""
    if not is_logits:
        return {"divergence": 0.0, "divergent": 0}
    present = np.atleast_1d(expected).any(-1)
    p, q = (_log_softmax(np.atleast_1d(logits)[present]) for logits in (expected, found))
    return {"divergence": float((np.exp(p) * (p - q)).sum()), "divergent": int(present.sum())}


def _log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    shifted = logits - logits.max(-1, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def _agreement(parts: Sequence[_Sums], width: int) -> OutputAgreement:
    sums = _Sums(*np.sum(parts, axis=0).tolist())
    norms = math.sqrt(sums.found_square) * math.sqrt(sums.expected_square)
    variance = sums.expected_square - sums.total**2 / sums.values
    both_zero = sums.found_square == sums.expected_square == 0
    return OutputAgreement(
        max_error=float(np.max([part.max_error for part in parts])),  # numpy's keeps NaN, Python's may lose it
        mean_error=sums.error / sums.values,
        cosine=sums.product / norms if norms else float(both_zero),
        argmax_agreement=sums.same_argmax / sums.vectors,
        largest=float(np.max([part.largest for part in parts])),
        divergence=sums.divergence / sums.divergent if sums.divergent else None,
        missed=sums.squared_error / max(variance, LEAST_VARIANCE * sums.expected_square, 1e-300),
        width=width,
    )
