"""From scores to masks: which units of a matrix become zero, in exactly the number asked for."""

import torch
from torch import Tensor

from edgefold.masks.steps import NM, Block, MaskStep


def as_matrix(weight: Tensor, axis: int) -> Tensor:
    """The weight as (rows, inputs): `axis`, along which it is contracted, comes last; all others make the rows."""
    return weight.movedim(axis, -1).reshape(-1, weight.shape[axis])


def from_matrix(matrix: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """The inverse of `as_matrix` for a weight of this shape."""
    moved = [*shape[:axis], *shape[axis + 1 :], shape[axis]]
    return matrix.reshape(moved).movedim(-1, axis).contiguous()


def into_groups(scores: Tensor, step: MaskStep) -> Tensor:
    """The units that are compared with each other, group by group: (rows, inputs) -> (groups, units of each)."""
    rows, inputs = scores.shape
    if isinstance(step, NM):
        return scores.reshape(-1, step.m)
    if isinstance(step, Block):
        height, width = step.shape
        return scores.reshape(rows // height, height, inputs // width, width).sum((1, 3)).reshape(1, -1)
    return scores if step.score == "wanda" else scores.reshape(1, -1)


def from_groups(groups: Tensor, step: MaskStep, rows: int, inputs: int) -> Tensor:
    """What holds for each unit, for each of its weights: (groups, units) -> (rows, inputs)."""
    if isinstance(step, Block):
        height, width = step.shape
        blocks = groups.reshape(rows // height, inputs // width)
        return blocks.repeat_interleave(height, 0).repeat_interleave(width, 1)
    return groups.reshape(rows, inputs)


def lowest_in_balance(scores: Tensor, count: int) -> Tensor:
    """True for `count` units of (groups, k), as many in each group but for one: the lowest of each, then of all.

    Among equal scores the first ones are taken. Units of score minus infinity that were taken before are taken again
    when `count` grows, so masks that mark what is masked so stay nested.
    """
    groups = len(scores)
    each, rest = divmod(count, groups)
    taken = _lowest(scores, each)
    if rest:
        left = scores.masked_fill(taken, float("inf"))
        next_lowest = left.min(1).values
        taken |= _lowest(left, 1) & _lowest(next_lowest[None], rest).reshape(groups, 1)
    return taken


def _lowest(scores: Tensor, count: int) -> Tensor:
    """True for the `count` lowest of each row, the first ones among equals: (n, k) -> (n, k)."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = scores.kthvalue(count, dim=1, keepdim=True).values
    below, equal = scores < limit, scores == limit
    return below | (equal & (equal.cumsum(1) <= count - below.sum(1, keepdim=True)))
