"""Factor pairs: exact at full rank, optimal below, refused where they cannot be."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.low_rank import FactorPair, factorize, find_factor_pairs, keep_energy
from edgefold.plans import LowRank, Plan
from edgefold.student_building import build_student


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


def test_energy_chooses_the_smallest_rank_that_keeps_it() -> None:
    sigma = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.1, 0.1, 0.1, 0.1], dtype=torch.float64)
    left, right = torch.eye(20, 8, dtype=torch.float64) * sigma.sqrt(), torch.randn(8, 24, dtype=torch.float64)
    shares = sigma.square().cumsum(0) / sigma.square().sum()
    for rank in (1, 2, 3):
        for energy in (float(shares[rank - 1]) - 1e-9, float(shares[rank - 2]) + 1e-9 if rank > 1 else 0.01):
            kept = keep_energy(FactorPair("layer", 8, energy, 1), left, right)
            assert kept is not None
            assert (kept[0].shape, kept[1].shape) == ((20, rank), (rank, 24))
    rounded = keep_energy(FactorPair("layer", 8, float(shares[2]) - 1e-9, 4), left, right)
    assert rounded is not None
    assert rounded[0].shape == (20, 4)


def test_energy_that_needs_a_pair_no_smaller_leaves_the_matrix_dense() -> None:
    left, right = torch.eye(12, dtype=torch.float64), torch.randn(12, 12, dtype=torch.float64)
    assert keep_energy(FactorPair("layer", 12, 0.95, 8), left, right) is None
    assert keep_energy(FactorPair("layer", 12), left, right) == (left, right)


@pytest.mark.parametrize("mode", ["weights", "all"])
def test_a_student_by_energy_keeps_what_it_says(
    mode: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    """A matrix of rank 3 becomes a pair of rank 4 = 3 rounded up, exactly; a matrix of full rank stays dense."""
    teacher = make_bert()
    with torch.no_grad():
        u, sigma, v = torch.linalg.svd(teacher.bert.pooler.dense.weight)
        teacher.bert.pooler.dense.weight.copy_((u[:, :3] * sigma[:3]) @ v[:3])
    plan = Plan([LowRank("pooler", energy=1 - 1e-9, multiple_of=4), LowRank("query", energy=1.0)])
    student = build_student(teacher, plan, text_batch(), [text_batch(8, 24)], mode)
    assert [(pair.module, pair.rank) for pair in student.structure.factor_pairs] == [("bert.pooler.dense", 4)]
    expected = teacher(**text_batch()).logits
    torch.testing.assert_close(student(**text_batch()).logits, expected, rtol=1e-9, atol=1e-9)
