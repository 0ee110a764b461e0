"""A proximal step minimises in the optimizer's own metric, when it is due, and is the last thing in a step."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.penalized_weights import find_penalized
from edgefold.penalties import L1, GroupLasso, NuclearNorm, WeightPenalty
from edgefold.proximal_steps import ProximalSteps

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=0.1),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.02, amsgrad=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1),
    "fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.02, fused=True),
}


class Regression:
    """A linear layer that learns from noise, with and without a penalty side by side."""

    def __init__(self, penalty: WeightPenalty | None, optimizer: str = "adamw", steps: int = 100) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 5).double()
        self.optimizer = OPTIMIZERS[optimizer](self.layer.parameters())
        self.done, self.steps, self.batches = 0, steps, torch.Generator().manual_seed(1)
        if penalty is not None:
            targets = find_penalized(penalty, dict(self.layer.named_parameters()))
            steps_of = ProximalSteps(self.layer, [(penalty, target) for target in targets])
            steps_of.attach(self.optimizer, lambda: (self.done, self.steps))

    def train(self, steps: int) -> Tensor:
        """The weight after some steps."""
        for _ in range(steps):
            x = torch.randn(16, 6, generator=self.batches, dtype=torch.float64)
            self.optimizer.zero_grad()
            ((self.layer(x) - x[:, :1]) ** 2).mean().backward()
            self.optimizer.step()
            self.done += 1
        return self.layer.weight.detach().clone()


def metric_of(optimizer: Any, weight: Tensor) -> Tensor:
    """H as the optimizers' papers have it."""
    (group,) = optimizer.param_groups
    state = optimizer.state[weight]
    if isinstance(optimizer, torch.optim.SGD):
        return torch.full_like(weight, 1 / group["lr"])
    second = state["max_exp_avg_sq"] if group["amsgrad"] else state["exp_avg_sq"]
    corrected = second / (1 - group["betas"][1] ** state["step"].item())
    return (corrected.sqrt() + group["eps"]) / group["lr"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_l1_minimises_in_the_metric_of_the_step(optimizer: str) -> None:
    """H (x - w) + strength * s = 0 with s = sign(x) where x is not zero, and |s| <= 1 where it is."""
    strength = 0.05
    with_prox, without = Regression(L1(strength), optimizer), Regression(None, optimizer)
    x, w = with_prox.train(1), without.train(1)
    h = metric_of(without.optimizer, without.layer.weight)
    s = h * (w - x) / strength
    torch.testing.assert_close(s[x != 0], x[x != 0].sign(), rtol=1e-9, atol=1e-9)
    assert s.abs().max() <= 1 + 1e-9
    assert 0 < int((x == 0).sum()) < x.numel()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("penalty", [GroupLasso(0.05), GroupLasso(0.05, "columns"), NuclearNorm(0.05)], ids=str)
def test_groups_and_ranks_take_the_mean_metric(penalty: WeightPenalty, optimizer: str) -> None:
    with_prox, without = Regression(penalty, optimizer), Regression(None, optimizer)
    x, w = with_prox.train(1), without.train(1)
    h = metric_of(without.optimizer, without.layer.weight)
    axis = {"rows": 1, "columns": 0}.get(getattr(penalty, "groups", ""))
    step = 1 / (h.mean() if axis is None else h.mean(axis, keepdim=True))
    expected = penalty.prox(w.T, step.T).T if axis == 0 else penalty.prox(w, step)
    torch.testing.assert_close(x, expected, rtol=1e-9, atol=1e-12)
    assert not torch.equal(x, w)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_after_many_steps_zeros_are_exact_and_what_is_needed_lives(optimizer: str) -> None:
    weight = Regression(GroupLasso(0.06, "columns"), optimizer, 600).train(600)
    assert torch.equal(weight[:, 1:], torch.zeros(5, 5, dtype=torch.float64))
    assert bool((weight[:, 0] > 0.5).all())


def test_the_nuclear_norm_lowers_the_rank() -> None:
    run = Regression(NuclearNorm(0.01, every=7), steps=600)
    assert torch.linalg.matrix_rank(run.train(1)) == 5
    assert torch.linalg.matrix_rank(run.train(598)) > 1  # 599 is no multiple of 7
    assert torch.linalg.matrix_rank(run.train(1)) == 1  # the last step closes with a proximal one


def test_an_interval_counts_for_all_its_steps() -> None:
    every, once = Regression(NuclearNorm(0.01, every=3), "sgd"), Regression(NuclearNorm(0.03, every=1), "sgd")
    plain = Regression(None, "sgd")
    torch.testing.assert_close(every.train(2), plain.train(2), rtol=0, atol=0)
    w = plain.train(1)
    torch.testing.assert_close(every.train(1), NuclearNorm(0.03).prox(w, 0.02))
    once.steps = 1
    torch.testing.assert_close(once.train(1), NuclearNorm(0.03).prox(Regression(None, "sgd").train(1), 0.02))


def test_the_learning_rate_in_force_counts() -> None:
    run = Regression(L1(1e3))
    run.optimizer.param_groups[0]["lr"] = 0.0
    before = run.layer.weight.detach().clone()
    assert torch.equal(run.train(1), before)
    run.optimizer.param_groups[0]["lr"] = 1.0
    assert not run.train(1).any()


def test_what_has_never_had_a_gradient_stays() -> None:
    table = nn.Embedding(10, 4)
    start = copy.deepcopy(table.weight.detach())
    optimizer = torch.optim.AdamW(table.parameters(), lr=0.1, weight_decay=0.0)
    (target,) = find_penalized(L1(1.0), {"weight": table.weight})
    ProximalSteps(table, [(L1(1.0), target)]).attach(optimizer, lambda: (0, 9))
    optimizer.step()
    assert torch.equal(table.weight, start)
    table(torch.tensor([1, 2])).sum().backward()
    optimizer.step()
    assert torch.equal(table.weight[3:], start[3:])
    assert not torch.equal(table.weight[1:3], start[1:3])


def test_half_precision_is_thresholded_in_single() -> None:
    layer = nn.Linear(8, 8, bias=False).bfloat16()
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    (target,) = find_penalized(NuclearNorm(0.1), {"weight": layer.weight})
    ProximalSteps(layer, [(NuclearNorm(0.1), target)]).attach(optimizer, lambda: (0, 1))
    layer.weight.grad = torch.zeros_like(layer.weight)
    expected = NuclearNorm(0.1).prox(layer.weight.detach().float(), 1.0)
    optimizer.step()
    assert torch.equal(layer.weight, expected.bfloat16())


def test_an_optimizer_of_unknown_scaling_is_refused() -> None:
    layer = nn.Linear(3, 3)
    (target,) = find_penalized(L1(0.1), dict(layer.named_parameters()))
    with pytest.raises(InputError, match=r"know the scaling of AdamW, Adam and SGD; got Adagrad. Choose one of these"):
        ProximalSteps(layer, [(L1(0.1), target)]).attach(torch.optim.Adagrad(layer.parameters()), lambda: (0, 1))
