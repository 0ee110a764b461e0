"""What proximal steps cost: the nuclear norm against one singular value decomposition, all against the training step of
the layer; and how exact the nuclear norm's way through the Gram matrix is.

Processor time, one thread, variants interleaved; each row is the median and the ratio of medians.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.penalized_weights import find_penalized
from edgefold.penalties import L1, GroupLasso, NuclearNorm, WeightPenalty
from edgefold.penalties.nuclear_norm import threshold_singular_values
from edgefold.proximal_steps import ProximalSteps

TOKENS = 4096
"""Of one optimizer step: 32 texts of 128 tokens."""


def medians(calls: Sequence[Callable[[], Any]], rounds: int) -> list[float]:
    """Processor seconds of each, in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds + 1):
        for call, found in zip(calls, times, strict=True):
            begun = time.process_time()
            call()
            found.append(time.process_time() - begun)
    return [median(found[1:]) for found in times]


def spectrum(rows: int, columns: int) -> Tensor:
    """A matrix whose singular values fall as those of trained layers do, as a power of their number."""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(rows, rows, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(columns, rows, generator=generator, dtype=torch.float64))
    sigma = 10 * torch.arange(1, rows + 1, dtype=torch.float64) ** -0.5
    return ((u * sigma) @ v.T).float()


@pytest.mark.parametrize(("rows", "columns", "rounds"), [(768, 3072, 5), (768, 768, 7), (384, 1536, 9)])
def test_the_nuclear_norm_costs_no_more_than_a_decomposition(rows: int, columns: int, rounds: int) -> None:
    torch.set_num_threads(1)
    weight = spectrum(rows, columns)
    u, sigma, vt = torch.linalg.svd(weight.double(), full_matrices=False)
    decompose = partial(torch.linalg.svd, weight, full_matrices=False)
    for share in (0.1, 0.5, 0.9):
        threshold = float(sigma[int(share * rows)])
        prox, svd = medians([partial(threshold_singular_values, weight, threshold), decompose], rounds)
        exact = (u * (sigma - threshold).clamp_min(0)) @ vt
        error = float((threshold_singular_values(weight, threshold).double() - exact).norm() / exact.norm())
        print(
            f"\n({rows}, {columns}), {share:.0%} of the rank kept: {prox:.3f} s, {prox / svd:.2f} of one SVD "
            f"({svd:.3f} s), relative error {error:.1e}",
            end="",
        )
        assert prox <= 1.2 * svd
        assert error < 1e-5


def training_step(layer: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    layer(x).square().mean().backward()
    optimizer.step()


@pytest.mark.parametrize("penalty", [NuclearNorm(1e-3), GroupLasso(1e-3), L1(1e-3)], ids=lambda p: type(p).__name__)
@pytest.mark.parametrize(("rows", "columns"), [(768, 3072), (768, 768), (384, 1536), (128, 512)])
def test_proximal_steps_are_a_small_share_of_training(rows: int, columns: int, penalty: WeightPenalty) -> None:
    """Of the time that the layer itself takes in a step, at the interval that is the default."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    layer = nn.Linear(columns, rows)
    x = torch.randn(TOKENS, columns, requires_grad=True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-4)
    training_step(layer, x, optimizer)
    (target,) = find_penalized(penalty, dict(layer.named_parameters()))
    steps = ProximalSteps(layer, [(penalty, target)])
    interval = penalty.interval((rows, columns))
    proximal, step = medians(
        [lambda: steps.step(optimizer, interval - 1, 10**6), lambda: training_step(layer, x, optimizer)], 5
    )
    share = proximal / interval / step
    print(
        f"\n({rows}, {columns}) {type(penalty).__name__}: {proximal * 1e3:.1f} ms every {interval} steps of "
        f"{step * 1e3:.0f} ms: {share:.1%}",
        end="",
    )
    assert share < 0.15
