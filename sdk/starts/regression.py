"""Least-squares corrections of a weight, or of a norm's scale and shift, from second moments alone."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from edgefold.calibration import Moments


@dataclass
class Residuals:
    """Moments of residuals e and of their products with inputs x; each batch in its own precision, sums in float64.

    e: (n, out) is what a linear map y = W x + b still lacks; x: (n, in).
    """

    count: int = 0
    total: Tensor | float = field(default=0.0)
    """sum of e: (out,)."""
    cross: Tensor | float = field(default=0.0)
    """sum of e x^T: (out, in)."""
    squared: float = 0.0
    """sum of |e|^2."""

    def add(self, x: Tensor, e: Tensor) -> None:
        dtype = torch.promote_types(torch.promote_types(x.dtype, e.dtype), torch.float32)
        x, e = x.to("cpu", dtype), e.to("cpu", dtype)
        self.count += len(e)
        self.total = self.total + e.sum(0).double()
        self.cross = self.cross + (e.T @ x).double()
        self.squared += float(e.square().sum())


@dataclass(frozen=True)
class Correction:
    """W + `weight`, b + `shift` instead of W, b; with the mean squared error before and after."""

    weight: Tensor | None
    shift: Tensor | None
    before: float
    after: float


def ridge_correction(inputs: Moments, residuals: Residuals, ridge: float, fits_shift: bool) -> Correction:
    """The D, d that minimise E|e - D x - d|^2 + lambda |D|^2, with lambda = ridge * trace(E[x x^T]) / in.

    D = E[e x^T] (E[x x^T] + lambda I)^-1: a ridge that pulls towards the weight as it is, not towards zero. With a
    shift both moments are about their means, and d = E[e] - D E[x]; without one d is None.
    """
    mean_e = torch.as_tensor(residuals.total) / residuals.count
    cross = torch.as_tensor(residuals.cross) / residuals.count
    before = residuals.squared / residuals.count
    second = inputs.covariance if fits_shift else inputs.uncentred
    if fits_shift:
        cross = cross - torch.outer(mean_e, inputs.mean)
    penalty = ridge * float(second.trace()) / inputs.size
    if penalty <= 0:
        weight = torch.zeros_like(cross)
    else:
        weight = torch.linalg.solve(second + penalty * torch.eye(inputs.size, dtype=second.dtype), cross, left=False)
    gain = float((2 * weight * cross - (weight @ second) * weight).sum())
    shift = mean_e - weight @ inputs.mean if fits_shift else None
    gain += float(mean_e.square().sum()) if fits_shift else 0.0
    return Correction(weight, shift, before, before - gain)


def shift_correction(residuals: Residuals) -> Correction:
    """d = E[e], the weight as it is."""
    mean = torch.as_tensor(residuals.total) / residuals.count
    before = residuals.squared / residuals.count
    return Correction(None, mean, before, before - float(mean.square().sum()))


@dataclass
class Coordinates:
    """Moments, coordinate by coordinate, of values z and of residuals e: (n, d) each."""

    sums: Tensor | float = 0.0
    """Rows: count, z, e, z^2, z e, e^2: (6, d)."""

    def add(self, z: Tensor, e: Tensor) -> None:
        z, e = z.to("cpu", torch.float64), e.to("cpu", torch.float64)
        terms = (torch.ones_like(z), z, e, z * z, z * e, e * e)
        self.sums = self.sums + torch.stack([term.sum(0) for term in terms])


def scale_correction(coordinates: Coordinates, fits_scale: bool, fits_shift: bool) -> Correction:
    """The a, c that minimise E(e - a z - c)^2 in each coordinate; a coordinate that never varies keeps its scale."""
    sums = torch.as_tensor(coordinates.sums)
    z, e, zz, ze, ee = sums[1:] / sums[0]
    variance, covariance = (zz - z * z, ze - z * e) if fits_shift else (zz, ze)
    varies = variance > 1e-12 * zz.mean()
    scale = torch.where(varies & fits_scale, covariance / variance.where(varies, torch.ones_like(variance)), 0.0)
    shift = e - scale * z if fits_shift else torch.zeros_like(e)
    after = ee - 2 * scale * ze - 2 * shift * e + scale**2 * zz + 2 * scale * shift * z + shift**2
    return Correction(scale, shift, float(ee.sum()), float(after.sum()))
