"""Proximal steps: what penalties do to the weights right after the optimizer's step, with the learning rate in force.

In the metric of a step, w <- argmin_x 1/2 (x - w)^T H (x - w) + r(x). Gradient descent has H = 1/lr. Adam and AdamW
have the diagonal H = D/lr, D = sqrt(v_hat) + eps, v_hat their bias-corrected second moment: the scaling of their own
step, without which a threshold would have nothing to do with how fast a weight can move (Yun, Lozano and Yang, 2021;
Melchior, Joseph and Moolekamp, 2019). Element by element that is exact (L1, L2, elastic net). For groups and for
singular values no closed form exists; there H is replaced by the multiple of the identity nearest to it, its mean over
the group or the matrix. Several penalties of one weight act in the order in which they are given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from edgefold.errors import InputError
from edgefold.penalized_weights import Penalized
from edgefold.penalties import WeightPenalty
from edgefold.penalties.protocols import Metric


@dataclass(frozen=True)
class ProximalSteps:
    """The proximal steps of some penalties, attached to an optimizer."""

    model: nn.Module
    """Whose parameters the penalties name."""
    targets: Sequence[tuple[WeightPenalty, Penalized]]

    def attach(self, optimizer: Optimizer, progress: Callable[[], tuple[int, int]]) -> None:
        """From now on every step of the optimizer ends with these.

        Nothing is counted here, so that training resumes anywhere: a penalty with an interval of k acts when the
        number of steps is a multiple of k, and at the last step, for all the steps since then at once.

        Args:
            progress: () -> (steps done before this one, steps in all).

        Raises:
            InputError: an optimizer whose scaling is not known.
        """
        _check_optimizer(optimizer)
        optimizer.register_step_post_hook(lambda *_: self.step(optimizer, *progress()))

    @torch.no_grad()
    def step(self, optimizer: Optimizer, done: int, total: int) -> None:
        """The proximal step of each penalty that is due after step `done` + 1; in place."""
        parameters = dict(self.model.named_parameters())
        groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
        for penalty, target in self.targets:
            weight = target.gather(parameters)
            count = _steps_due(done + 1, total, penalty.interval(tuple(weight.shape)))
            if not count or any(id(parameters[name]) not in groups for name in target.names):
                continue
            metrics = {
                name: _metric(optimizer, parameters[name], groups[id(parameters[name])], penalty.metric)
                for name in target.names
            }
            step = count * _step(target.gather(metrics), penalty.metric)
            precise = weight.float() if weight.dtype in (torch.float16, torch.bfloat16) else weight
            target.scatter(penalty.prox(precise, step.to(precise.dtype)), parameters)


def _steps_due(step: int, total: int, interval: int) -> int:
    """For how many optimizer steps a proximal step stands after this one; 0 where none is due."""
    if step % interval == 0:
        return interval
    return step % interval if step == total else 0


def _metric(optimizer: Optimizer, parameter: Tensor, group: Mapping[str, Any], kind: Metric) -> Tensor:
    """H of every element, in the parameter's shape; infinite, so that nothing happens, where there was no step.

    By themselves, elements that never had a gradient stay, too (rows of a table for tokens that training has not met):
    under Adam they have D = eps, and any threshold would be the end of them.
    """
    precision = torch.promote_types(parameter.dtype, torch.float32)
    rate = torch.tensor(float(group["lr"]), dtype=precision, device=parameter.device)
    state = optimizer.state.get(parameter, {})
    if parameter.grad is None or (not isinstance(optimizer, SGD) and "exp_avg_sq" not in state):
        return torch.full_like(parameter, torch.inf, dtype=precision)
    if isinstance(optimizer, SGD):
        return (1 / rate).expand(parameter.shape)
    second: Tensor = (state["max_exp_avg_sq"] if group.get("amsgrad") else state["exp_avg_sq"]).to(precision)
    corrected = second / (1 - float(group["betas"][1]) ** float(state["step"]))
    metric: Tensor = (corrected.sqrt() + float(group["eps"])) / rate
    return metric.masked_fill(second == 0, torch.inf) if kind == "element" else metric


def _step(metric: Tensor, kind: Metric) -> Tensor:
    """The step sizes 1 / H as a penalty takes them: (groups, elements), (groups, 1) or ()."""
    if kind == "element":
        return 1 / metric
    return 1 / (metric.mean(1, keepdim=True) if kind == "group" else metric.mean())


def _check_optimizer(optimizer: Optimizer) -> None:
    if not isinstance(optimizer, Adam | AdamW | SGD):
        raise InputError(
            f"Proximal penalties know the scaling of AdamW, Adam and SGD; got {type(optimizer).__name__}. Choose one "
            'of these (optim="adamw_torch"), or give the penalties proximal=False.'
        )
