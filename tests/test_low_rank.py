"""Factor pairs: exact at full rank, optimal below, refused where they cannot be."""

import pytest
import torch
from torch import nn

from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.low_rank import FactorPair, factorize, find_factor_pairs
from edgefold.plans import LowRank, Plan
from edgefold.students import build_student


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(50, 12), nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 40)).double().eval()


def test_factors_compute_the_product() -> None:
    net, ids = make_net(), torch.randint(0, 50, (3, 4))
    left, right = torch.randn(30, 5).double(), torch.randn(5, 12).double()
    bias = net[1].bias.clone()
    factorize(net, FactorPair("1", 5), left, right)
    torch.testing.assert_close(net[1](net[0](ids)), net[0](ids) @ (left @ right).T + bias)


def test_an_embedding_becomes_a_smaller_table_and_a_projection() -> None:
    net, ids = make_net(), {"input": torch.randint(0, 50, (6, 4))}
    with torch.no_grad():  # a table of rank 3 loses nothing at rank 3
        net[0].weight.copy_(torch.randn(50, 3).double() @ torch.randn(3, 12).double())
    student = build_student(net, Plan([LowRank("0", 3)]), ids, [ids])
    plain = fold(student)
    assert plain[0][0].weight.shape == (50, 3)
    torch.testing.assert_close(plain(**ids), net(**ids), rtol=1e-8, atol=1e-8)


def test_a_pair_that_would_not_be_smaller_is_left_dense() -> None:
    assert find_factor_pairs(make_net(), [LowRank("1", 9)]) == []  # 9 * (12 + 30) >= 12 * 30
    assert find_factor_pairs(make_net(), [LowRank("1", 8)]) == [FactorPair("1", 8)]


def test_shared_weights_are_not_factorized() -> None:
    net = nn.ModuleDict({"a": nn.Linear(8, 8, bias=False), "b": nn.Linear(8, 8, bias=False)})
    net["b"].weight = net["a"].weight
    with pytest.raises(InputError, match=r"a cannot be factorized: its weight is shared by a\.weight, b\.weight"):
        find_factor_pairs(net, [LowRank("a", 2)])


def test_one_layer_is_not_named_twice() -> None:
    with pytest.raises(InputError, match="Two LowRank steps match 1"):
        find_factor_pairs(make_net(), [LowRank("1", 2), LowRank("*", 3)])
