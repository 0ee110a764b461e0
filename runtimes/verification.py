"""Numerical agreement of a session with a reference, output by output, on real batches."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from edgefold.errors import InputError

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]


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
    """Share of vectors along the last axis whose largest value stands at the same place."""


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
        InputError: no batches, no output in common, or shapes that differ.
    """
    pairs: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    count = 0
    for count, batch in enumerate(batches, 1):  # noqa: B007
        found, expected = candidate(batch), reference(batch)
        shared = [name for name in expected if name in found]
        if not shared:
            raise InputError(f"The two have no output in common: {', '.join(found)} against {', '.join(expected)}.")
        for name in shared:
            if found[name].shape != expected[name].shape:
                raise InputError(f"Output {name} has the shape {found[name].shape} against {expected[name].shape}.")
            pairs.setdefault(name, []).append((found[name], expected[name]))
    if not count:
        raise InputError("Verification needs at least one batch; got none.")
    return Verification(
        outputs={name: _agreement(values) for name, values in pairs.items()}, batches=count, tolerance=tolerance
    )


def _agreement(pairs: list[tuple[NDArray[Any], NDArray[Any]]]) -> OutputAgreement:
    a = np.concatenate([np.asarray(found, np.float64).ravel() for found, _ in pairs])
    b = np.concatenate([np.asarray(expected, np.float64).ravel() for _, expected in pairs])
    same = np.concatenate([np.atleast_1d(x.argmax(-1) == y.argmax(-1)).ravel() for x, y in pairs])
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    error = np.abs(a - b)
    return OutputAgreement(
        max_error=float(error.max()),
        mean_error=float(error.mean()),
        cosine=float(a @ b) / norms if norms else float(np.array_equal(a, b)),
        argmax_agreement=float(same.mean()),
    )
