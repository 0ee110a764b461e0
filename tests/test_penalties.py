"""Penalties are what their formulas say, and so are their gradients."""

import pytest
import torch

from edgefold.errors import InputError
from edgefold.penalties import L1, L2

WEIGHTS = [torch.tensor([[1.0, -2.0], [0.5, 0.0]]), torch.tensor([3.0])]


def test_values() -> None:
    assert L1(0.1).value(WEIGHTS).item() == pytest.approx(0.65)
    assert L2(0.1).value(WEIGHTS).item() == pytest.approx(0.1 * (1 + 4 + 0.25 + 9))
    assert L1(0.1).value([]).item() == 0


def test_gradients() -> None:
    weight = WEIGHTS[0].clone().requires_grad_()
    (L1(0.1).value([weight]) + L2(0.2).value([weight])).backward()
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, 0.1 * WEIGHTS[0].sign() + 0.4 * WEIGHTS[0])


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan")])
def test_bad_strengths(strength: float) -> None:
    with pytest.raises(InputError, match="strength of l1 must be a finite number"):
        L1(strength)
