"""Nuclear norm: matrices lose rank."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from edgefold.errors import InputError
from edgefold.penalties.protocols import Metric, Step, check_strength

SIDE_PER_STEP = 64
"""A matrix whose smaller side is n has its proximal step every n / 64 steps: it costs about n times what the optimizer
does per element. With that, and 4096 tokens a step, it stays below a tenth of the time that the layer's own forward and
backward pass take; tests/benchmarks/bench_penalties.py measures it again."""

OBLONG = 2
"""From this ratio of its sides on the Gram matrix is faster: measured .36 to .54 of the time of a decomposition for
768 x 3072, but 1.06 to 1.35 for 768 x 768; by the same benchmark."""


@dataclass(frozen=True)
class NuclearNorm:
    """strength * sum of the singular values, the convex envelope of the rank (Fazel, Hindi and Boyd, 2001).

    A kernel (out, in, ...) counts as the matrix (out, in * ...).
    """

    strength: float
    where: str = "*"
    every: int | None = None
    """Optimizer steps between two proximal steps, each of which then counts for as many; None chooses by the matrix."""
    proximal: bool = True
    metric: ClassVar[Metric] = "matrix"

    def __post_init__(self) -> None:
        check_strength("nuclear_norm", self.strength)
        if self.every is not None and (isinstance(self.every, bool) or self.every < 1):
            raise InputError(f"NuclearNorm(every={self.every!r}) must be a whole number of at least 1.")

    def value(self, weight: Tensor) -> Tensor:
        singular: Tensor = torch.linalg.svdvals(weight)
        return self.strength * singular.sum()

    def interval(self, shape: tuple[int, ...]) -> int:
        return self.every or max(1, min(shape) // SIDE_PER_STEP)

    def prox(self, weight: Tensor, step: Step) -> Tensor:
        """U max(Sigma - strength step, 0) V^T, the singular-value threshold (Cai, Candes and Shen, 2010)."""
        return threshold_singular_values(weight, self.strength * float(step))


def threshold_singular_values(weight: Tensor, threshold: float) -> Tensor:
    """Every singular value of a matrix less the threshold, and those below it zero.

    Of an oblong matrix from the eigenvectors Q of its smaller Gram matrix, W W^T = Q Sigma^2 Q^T, in float64:
    Q_k (1 - threshold / Sigma_k) Q_k^T W over the k values above the threshold, in half the time of a decomposition.
    Squaring costs half the digits, of which float64 has more than twice as many as float32. A float64 matrix, and one
    that is nearly square, takes the decomposition itself.
    """
    if weight.shape[0] > weight.shape[1]:
        return threshold_singular_values(weight.T, threshold).T
    if threshold == 0:
        return weight
    if weight.dtype == torch.float64 or weight.shape[1] < OBLONG * weight.shape[0]:
        u, sigma, vt = torch.linalg.svd(weight, full_matrices=False)
        kept = sigma > threshold
        shrunk: Tensor = (u[:, kept] * (sigma[kept] - threshold)) @ vt[kept]
        return shrunk
    matrix = weight.double()
    squares, vectors = torch.linalg.eigh(matrix @ matrix.T)
    kept = squares > threshold**2
    basis = vectors[:, kept]
    scale = 1 - threshold / squares[kept].sqrt()
    thresholded: Tensor = (basis * scale) @ (basis.T @ matrix)
    return thresholded.to(weight.dtype)
