"""Corrections are the minimisers that they claim to be, and find nothing to correct where there is nothing."""

import pytest
import torch
from torch import Tensor

from edgefold.calibration import Moments
from edgefold.starts.regression import (
    Coordinates,
    Correction,
    Residuals,
    ridge_correction,
    scale_correction,
    shift_correction,
)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def fitted(x: Tensor, e: Tensor, ridge: float, fits_shift: bool) -> Correction:
    moments, residuals = Moments(x.shape[1]), Residuals()
    for i in range(0, len(x), 7):  # in batches
        moments.add(x[i : i + 7])
        residuals.add(x[i : i + 7], e[i : i + 7])
    return ridge_correction(moments, residuals, ridge, fits_shift)


@pytest.mark.parametrize("fits_shift", [True, False])
def test_the_ridge_correction_is_where_the_gradient_vanishes(fits_shift: bool) -> None:
    x, e = draw(50, 6) + 2, draw(50, 4) - 1
    found = fitted(x, e, 0.1, fits_shift)
    assert found.weight is not None
    weight = found.weight.requires_grad_()
    shift = torch.zeros(4).double() if found.shift is None else found.shift.detach().requires_grad_()
    variance = (x - x.mean(0)).square().sum() / 50 if fits_shift else x.square().sum() / 50
    loss = (e - x @ weight.T - shift).square().sum() / 50
    (loss + 0.1 * variance / 6 * weight.square().sum()).backward()
    torch.testing.assert_close(weight.grad, torch.zeros_like(weight), rtol=0, atol=1e-12)
    assert shift.grad is None or shift.grad.abs().max() < 1e-12
    assert (found.shift is None) is not fits_shift
    assert found.after == pytest.approx(loss.item(), rel=1e-12)
    assert found.before == pytest.approx(float(e.square().sum()) / 50, rel=1e-12)


def test_a_constant_input_leaves_the_weight_and_moves_the_shift() -> None:
    found = fitted(torch.zeros(20, 3).double(), torch.ones(20, 2).double(), 0.1, True)
    assert found.weight is not None
    assert not found.weight.any()
    torch.testing.assert_close(found.shift, torch.ones(2).double())


def test_the_shift_alone_is_the_mean() -> None:
    residuals = Residuals()
    residuals.add(draw(30, 0), e := draw(30, 2) + 3)
    found = shift_correction(residuals)
    torch.testing.assert_close(found.shift, e.mean(0))
    assert found.after == pytest.approx(float((e - e.mean(0)).square().sum() / 30))


@pytest.mark.parametrize(("fits_scale", "fits_shift"), [(True, True), (True, False), (False, True)])
def test_scale_and_shift_leave_a_residual_without_correlation(fits_scale: bool, fits_shift: bool) -> None:
    z, e = draw(40, 5) + 1, draw(40, 5) - 2
    z[:, 3] = 4.0  # never varies
    coordinates = Coordinates()
    coordinates.add(z, e)
    found = scale_correction(coordinates, fits_scale, fits_shift)
    assert found.weight is not None
    assert found.shift is not None
    left = e - found.weight * z - found.shift
    zero = torch.zeros(5).double()
    torch.testing.assert_close(left.mean(0) if fits_shift else zero, zero, rtol=0, atol=1e-12)
    torch.testing.assert_close((left * z).mean(0) if fits_scale else zero, zero, rtol=0, atol=1e-12)
    assert found.after == pytest.approx(float(left.square().mean(0).sum()), rel=1e-9)
    assert found.after <= found.before
    if fits_shift:
        assert float(found.weight[3]) == 0
