"""Masks from scores: exactly as many zeros as asked for, the lowest ones, where the pattern wants them."""

import pytest
import torch
from torch import Tensor

from edgefold.masks.laws import as_matrix, from_groups, from_matrix, into_groups, lowest_in_balance
from edgefold.masks.steps import NM, Block, MaskStep, Unstructured

STEPS: list[MaskStep] = [
    Unstructured(0.8),
    Unstructured(0.37, score="wanda"),
    Block(0.5, (2, 3)),
    NM(2, 4),
    NM(1, 3),
    NM(5, 12),
]


def masked(scores: Tensor, step: MaskStep, count: int) -> Tensor:
    return from_groups(lowest_in_balance(into_groups(scores, step), count), step, *scores.shape)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_number_is_exact_among_random_and_among_equal_scores(step: MaskStep) -> None:
    unit = 6 if isinstance(step, Block) else 1
    for scores in (torch.rand(10, 12), torch.ones(10, 12), torch.rand(10, 12).round(decimals=1)):
        for count in range(0, scores.numel() // unit + 1):
            assert int(masked(scores, step, count).sum()) == count * unit


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_masks_are_nested(step: MaskStep) -> None:
    """What was masked has score minus infinity; whatever the others do meanwhile, it is masked again."""
    generator = torch.Generator().manual_seed(0)
    before = torch.zeros(10, 12, dtype=torch.bool)
    for count in range(0, 10 if isinstance(step, Block) else 60, 3):
        scores = torch.rand(10, 12, generator=generator).masked_fill(before, -float("inf"))
        after = masked(scores, step, count)
        assert not (before & ~after).any()
        before = after


def test_unstructured_takes_the_lowest_of_the_matrix() -> None:
    scores = torch.rand(10, 12)
    taken = masked(scores, Unstructured(0.5), 37)
    assert scores[taken].max() < scores[~taken].min()


def test_wanda_compares_within_rows() -> None:
    scores = torch.rand(10, 12) + 10 * torch.arange(10)[:, None]
    taken = masked(scores, Unstructured(0.5, score="wanda"), 43)
    assert sorted(taken.sum(1).tolist()) == [4] * 7 + [5] * 3
    assert taken.sum(1).tolist() == [5] * 3 + [4] * 7
    for row, chosen in zip(scores, taken, strict=True):
        assert row[chosen].max() < row[~chosen].min()


def test_every_group_keeps_its_highest() -> None:
    scores = torch.rand(10, 12)
    kept = ~masked(scores, NM(2, 4), 60)
    expected = torch.zeros(10, 3, 4, dtype=torch.bool).scatter_(2, scores.view(10, 3, 4).topk(2).indices, True)
    assert torch.equal(kept.view(10, 3, 4), expected)


def test_on_the_way_every_group_has_as_many_zeros_but_for_one() -> None:
    counts = masked(torch.rand(10, 12), NM(2, 4), 40).view(30, 4).sum(1)
    assert set(counts.tolist()) == {1, 2}


def test_a_block_goes_as_one_by_the_sum_of_its_scores() -> None:
    scores = torch.ones(4, 6)
    scores[2:, 3:] = 0.8
    scores[0, 0] = 0.0  # the lowest weight, in a block that is not the lowest
    taken = masked(scores, Block(0.25, (2, 3)), 1)
    assert taken[2:, 3:].all()
    assert int(taken.sum()) == 6


SHAPES = [((5, 8), 1), ((8, 5), 0), ((5, 8, 3, 2), 1), ((8, 5, 2), 0), ((3, 8, 5), 1)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_any_weight_is_a_matrix_with_its_inputs_last(shape: tuple[int, ...], axis: int) -> None:
    weight = torch.randn(shape)
    matrix = as_matrix(weight, axis)
    assert matrix.shape == (weight.numel() // 8, 8)
    first: list[int | slice] = [0] * len(shape)
    first[axis] = slice(None)
    assert torch.equal(matrix[0], weight[tuple(first)])
    assert torch.equal(from_matrix(matrix, weight.shape, axis), weight)


def test_channels_of_one_kernel_place_are_one_row() -> None:
    weight = torch.randn(5, 8, 3, 3)
    assert torch.equal(as_matrix(weight, 1)[1], weight[0, :, 0, 1])
