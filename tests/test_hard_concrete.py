"""The closed forms of the hard concrete distribution against its draws, and its gradient against differences."""

import pytest
import torch

from edgefold.gates.hard_concrete import log_alpha_of, mean, open_probability, sample

ALPHAS = torch.tensor([-4.0, -2.0, 0.0, 1.0, 3.0, 6.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def draws() -> torch.Tensor:
    """(200000, alphas)."""
    noise = torch.rand(200_000, len(ALPHAS), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return sample(ALPHAS, noise.clamp(1e-9, 1 - 1e-9))


def test_gates_are_exactly_closed_and_exactly_open_at_times(draws: torch.Tensor) -> None:
    assert draws.min() == 0
    assert draws.max() == 1
    assert (draws == 0).any(0)[:5].all()
    assert (draws == 1).any(0).all()


def test_the_expected_l0_norm_is_what_draws_say(draws: torch.Tensor) -> None:
    """Four standard errors of a share of 200,000 draws."""
    expected, share = open_probability(ALPHAS), (draws > 0).double().mean(0)
    error = (expected * (1 - expected) / len(draws)).sqrt()
    assert ((share - expected).abs() <= 4 * error + 1e-9).all()


def test_the_mean_is_what_draws_say(draws: torch.Tensor) -> None:
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - mean(ALPHAS)).abs() <= 4 * error + 1e-4).all()
    assert (mean(ALPHAS) > 0).all()
    assert (mean(ALPHAS) < 1).all()


def test_gradients_are_those_of_finite_differences() -> None:
    """At noise that leaves no draw on an edge, where there is no derivative."""
    noise = torch.rand(len(ALPHAS), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alphas = ALPHAS.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a: sample(a, noise), (alphas,))
    assert torch.autograd.gradcheck(open_probability, (alphas,))
    assert torch.autograd.gradcheck(mean, (alphas,))


def test_log_alpha_of_a_probability_is_the_inverse() -> None:
    for probability in (0.01, 0.5, 0.99):
        found = open_probability(torch.tensor(log_alpha_of(probability), dtype=torch.float64))
        assert float(found) == pytest.approx(probability, rel=1e-12)
