"""Zeros, ranks and removed parameters are counted as they are."""

import torch
from torch import nn

from edgefold.sparsity import sparsity_figures, weight_table


def model(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))


def test_figures() -> None:
    before, plain = model(6), model(5)
    with torch.no_grad():
        plain[0].weight[:2] = 0
        plain[0].bias[:] = 0  # no matrix
    assert sparsity_figures(before, plain) == {"zero_share": 8 / 30, "parameters": 37.0, "parameters_removed": 7.0}
    rows = weight_table(plain, with_ranks=True)
    assert [row["parameter"] for row in rows] == ["0.weight", "2.weight"]
    assert rows[0] == {"parameter": "0.weight", "shape": [5, 4], "zero_share": 0.4, "rank": 3}
    assert "rank" not in weight_table(plain, with_ranks=False)[0]


def test_kernels_count_as_matrices() -> None:
    (row,) = weight_table(nn.Conv2d(3, 4, 2), with_ranks=True)
    assert (row["shape"], row["rank"]) == ([4, 3, 2, 2], 4)
