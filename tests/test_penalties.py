"""Every penalty is its formula, its gradient is that of finite differences, its prox is the argmin it claims."""

from collections.abc import Callable
from math import sqrt

import pytest
import torch
from torch import Tensor

from edgefold.errors import InputError
from edgefold.penalties import (
    L1,
    L2,
    PENALTIES,
    ActivationL1,
    ElasticNet,
    GroupLasso,
    NuclearNorm,
    Orthogonality,
    Penalty,
    WeightPenalty,
    check_penalties,
)
from edgefold.penalties.nuclear_norm import threshold_singular_values

OF_WEIGHTS: list[WeightPenalty] = [L1(0.7), L2(0.7), ElasticNet(0.7, 0.3), NuclearNorm(0.7), GroupLasso(0.5)]
OTHERS: list[Penalty] = [Orthogonality(0.7), ActivationL1(0.7, "*")]


def norm(x: Tensor, epsilon: float) -> Tensor:
    return (x.square() + epsilon**2).sqrt()


SMOOTHED: dict[type, Callable[[Tensor, float], Tensor]] = {
    L1: lambda w, e: 0.7 * norm(w, e).sum(),
    L2: lambda w, e: 0.7 * (w * w).sum(),
    ElasticNet: lambda w, e: 0.7 * (0.3 * norm(w, e).sum() + 0.7 * (w * w).sum()),
    NuclearNorm: lambda w, e: 0.7 * norm(torch.linalg.eigvalsh(w.T @ w).clamp_min(0).sqrt(), e).sum(),
    GroupLasso: lambda w, e: 0.5 * sqrt(w.shape[1]) * norm(w.square().sum(1).sqrt(), e).sum(),
    Orthogonality: lambda p, e: 0.7 * ((p.T @ p - torch.eye(p.shape[1])) ** 2).sum(),
    ActivationL1: lambda a, e: 0.7 * norm(a, e).sum() / a.numel(),
}
"""The formulas again, with |x| replaced by sqrt(x^2 + epsilon^2) where it has a kink."""


def weight(rows: int = 4, columns: int = 3) -> Tensor:
    """One row is small, so that thresholds cut something."""
    matrix = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    matrix[1] /= 20
    return matrix


def smallest_value(objective: Callable[[Tensor, float], Tensor], start: Tensor) -> Tensor:
    """The minimiser of a function with kinks: by quasi-Newton steps on ever less smoothed ones."""
    x = (start + 0.01).clone().requires_grad_()
    for epsilon in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        solver = torch.optim.LBFGS([x], max_iter=400, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

        def closure(solver: torch.optim.Optimizer = solver, epsilon: float = epsilon) -> Tensor:
            solver.zero_grad()
            value = objective(x, epsilon)
            value.backward()
            return value

        solver.step(closure)
    return x.detach()


@pytest.mark.parametrize("penalty", [*OF_WEIGHTS, *OTHERS], ids=lambda p: type(p).__name__)
def test_the_value_is_the_formula(penalty: Penalty) -> None:
    torch.testing.assert_close(penalty.value(weight()), SMOOTHED[type(penalty)](weight(), 0.0))
    assert penalty.value(weight()) > 0
    with torch.no_grad():
        assert type(penalty)(*([0.0, "*"] if isinstance(penalty, ActivationL1) else [0.0])).value(weight()) == 0


@pytest.mark.parametrize("penalty", [*OF_WEIGHTS, *OTHERS], ids=lambda p: type(p).__name__)
def test_the_gradient_is_that_of_finite_differences(penalty: Penalty) -> None:
    assert torch.autograd.gradcheck(penalty.value, weight().requires_grad_())


@pytest.mark.parametrize("step", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("penalty", OF_WEIGHTS, ids=lambda p: type(p).__name__)
def test_the_prox_is_the_numerical_minimiser_of_its_objective(penalty: WeightPenalty, step: float) -> None:
    def objective(x: Tensor, epsilon: float) -> Tensor:
        return 0.5 * (x - w).square().sum() + step * SMOOTHED[type(penalty)](x, epsilon)

    w = weight()
    torch.testing.assert_close(penalty.prox(w, step), smallest_value(objective, w), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("penalty", OF_WEIGHTS, ids=lambda p: type(p).__name__)
def test_no_point_is_better_than_the_prox(penalty: WeightPenalty) -> None:
    """The objective is strongly convex: any x is worse than its minimiser by half their squared distance or more."""
    w, step = weight(), 0.3
    best = penalty.prox(w, step)
    least = 0.5 * (best - w).square().sum() + step * penalty.value(best)
    generator = torch.Generator().manual_seed(0)
    for size in (1.0, 1e-1, 1e-2, 1e-3):
        for _ in range(25):
            x = best + size * torch.randn(w.shape, generator=generator, dtype=torch.float64)
            value = 0.5 * (x - w).square().sum() + step * penalty.value(x)
            assert value >= least + 0.5 * (x - best).square().sum() - 1e-12


@pytest.mark.parametrize("penalty", OF_WEIGHTS, ids=lambda p: type(p).__name__)
def test_a_prox_by_elements_or_groups_is_that_of_each_with_its_own_step(penalty: WeightPenalty) -> None:
    w, generator = weight(), torch.Generator().manual_seed(1)
    shapes = {"element": w.shape, "group": (len(w), 1), "matrix": ()}
    steps = torch.rand(shapes[penalty.metric], generator=generator, dtype=torch.float64)
    together = penalty.prox(w, steps)
    if penalty.metric == "element":
        alone = torch.stack([penalty.prox(x[None, None], float(s))[0, 0] for x, s in zip(w.view(-1), steps.view(-1))])  # noqa: B905
    elif penalty.metric == "group":
        alone = torch.cat([penalty.prox(w[i : i + 1], float(steps[i])) for i in range(len(w))])
    else:
        alone = penalty.prox(w, float(steps))
    torch.testing.assert_close(together, alone.view(w.shape), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("penalty", OF_WEIGHTS, ids=lambda p: type(p).__name__)
def test_no_step_changes_nothing(penalty: WeightPenalty) -> None:
    assert torch.equal(penalty.prox(weight(), 0.0), weight())


def test_zeros_are_exact() -> None:
    w = weight(6, 5)
    sparse = L1(1.0).prox(w, 0.3)
    assert torch.equal(sparse == 0, w.abs() <= 0.3)
    grouped = GroupLasso(1.0).prox(w, 0.2)
    dead = w.norm(dim=1) <= 0.2 * sqrt(5)
    assert torch.equal((grouped == 0).all(1), dead)
    assert 0 < dead.sum() < 6
    assert bool((grouped[~dead] != 0).all())
    assert torch.equal(GroupLasso(1.0).prox(torch.zeros(2, 3), 0.1), torch.zeros(2, 3))


@pytest.mark.parametrize("shape", [(8, 12), (8, 40), (40, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_nuclear_norm_takes_the_threshold_off_every_singular_value(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    w = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    u, sigma, vt = torch.linalg.svd(w.double(), full_matrices=False)
    threshold = float(sigma[3] + sigma[4]) / 2
    found = threshold_singular_values(w, threshold)
    expected = (u * (sigma - threshold).clamp_min(0)) @ vt
    accuracy = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(found.double(), expected, atol=accuracy, rtol=accuracy)
    assert found.dtype == dtype
    assert int((torch.linalg.svdvals(found.double()) > accuracy).sum()) == 4
    assert torch.equal(threshold_singular_values(w, 1e3), torch.zeros(shape, dtype=dtype))


def test_large_matrices_have_their_singular_values_cut_more_rarely() -> None:
    assert [NuclearNorm(1.0).interval(shape) for shape in ((16, 900), (768, 768), (3072, 768))] == [1, 12, 12]
    assert NuclearNorm(1.0, every=3).interval((768, 768)) == 3
    assert GroupLasso(1.0).interval((768, 768)) == 1


@pytest.mark.parametrize("strength", [-1.0, float("inf"), float("nan"), True, "much"])
@pytest.mark.parametrize("name", PENALTIES)
def test_bad_strengths(name: str, strength: float) -> None:
    more = {"where": "*"} if name == "activation_l1" else {}
    with pytest.raises(InputError, match=f"strength of {name} must be a finite number of at least 0; got {strength!r}"):
        PENALTIES[name](strength, **more)  # type: ignore[call-arg]


def test_bad_settings() -> None:
    with pytest.raises(InputError, match=r"l1_share=1.5\) must be a share from 0 \(L2\) to 1 \(L1\)"):
        ElasticNet(1.0, 1.5)
    with pytest.raises(InputError, match=r"every=0\) must be a whole number of at least 1"):
        NuclearNorm(1.0, every=0)
    with pytest.raises(InputError, match=r"penalties holds 0.1; it takes instances of L1, L2, ElasticNet"):
        check_penalties([0.1])
