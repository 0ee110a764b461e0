"""The hard concrete distribution of a gate, which is exactly 0 and exactly 1 with positive probability.

    s = sigmoid((log u - log(1 - u) + log_alpha) / beta),   u ~ U(0, 1),   z = min(1, max(0, s (zeta - gamma) + gamma))

with beta = 2/3, gamma = -0.1, zeta = 1.1. Source: Louizos, Welling, Kingma (2018).
"""

from math import log

import torch
from torch import Tensor

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
NODES = 64
"""Midpoints at which the mean is integrated; its error is below 1e-4."""


def sample(log_alpha: Tensor, noise: Tensor) -> Tensor:
    """z at uniform noise u in (0, 1); differentiable in log_alpha. Any shape, both the same or broadcast."""
    s = torch.sigmoid((torch.logit(noise) + log_alpha) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """P(z > 0) = sigmoid(log_alpha - beta log(-gamma / zeta)), the expected L0 norm of one gate."""
    return torch.sigmoid(log_alpha - BETA * log(-GAMMA / ZETA))


def mean(log_alpha: Tensor) -> Tensor:
    """E[z] = int_0^1 P(z > x) dx = int_0^1 sigmoid(log_alpha - beta logit((x - gamma) / (zeta - gamma))) dx: the value
    that stands in for a gate's draws where nothing is drawn, above 0 for every gate. Shape as log_alpha."""
    x = (torch.arange(NODES, dtype=log_alpha.dtype, device=log_alpha.device) + 0.5) / NODES
    thresholds = BETA * torch.logit((x - GAMMA) / (ZETA - GAMMA))
    return torch.sigmoid(log_alpha[..., None] - thresholds).mean(-1)


def log_alpha_of(probability: float) -> float:
    """The log_alpha of a gate that is open with this probability, the inverse of `open_probability`."""
    return log(probability / (1 - probability)) + BETA * log(-GAMMA / ZETA)
