"""Relations: how the tokens' queries, keys or values resemble one another; needs equal neither width nor heads."""

from collections.abc import Iterable
from math import gcd

import torch
from torch import Tensor, nn

from edgefold.distillation.masking import masked_mean
from edgefold.errors import InputError

MOST_HEADS = 12
"""Relation heads where nothing else is asked for; MiniLM's teachers have so many."""


def relation_loss(student: Tensor, teacher: Tensor, heads: int | None = None, mask: Tensor | None = None) -> Tensor:
    """mean KL(R_t || R_s), R = softmax(X X^T / sqrt(w)) for each of r slices X of width w (Wang et al., 2020; 2021).

    Args:
        student: (batch, sequence, p): queries, keys or values of all heads side by side.
        teacher: (batch, sequence, d).
        heads: r, into how many slices both are split anew; None takes the most, up to 12, that divide p and d.
        mask: (batch, sequence), nonzero where a token counts.

    Raises:
        InputError: r does not divide both widths.
    """
    widths = (student.shape[-1], teacher.shape[-1])
    count = heads or relation_heads(widths)
    if any(width % count for width in widths):
        raise InputError(
            f"{count} relation heads do not divide the widths {widths[0]} (student) and {widths[1]} (teacher); choose "
            f"one of {', '.join(map(str, _divisors(gcd(*widths))))}."
        )
    log_student, log_teacher = (_log_relations(value, count, mask) for value in (student, teacher))
    difference = log_teacher - log_student
    if mask is not None:  # -inf - -inf at keys that no query sees
        difference = difference.masked_fill(mask[:, None, None, :] == 0, 0.0)
    return masked_mean((log_teacher.exp() * difference).sum(-1).mean(1), mask)


def relation_heads(widths: Iterable[int]) -> int:
    """The largest number up to 12 that divides every width."""
    return max(number for number in _divisors(gcd(*widths)) if number <= MOST_HEADS)


def _divisors(number: int) -> list[int]:
    return [candidate for candidate in range(1, number + 1) if number % candidate == 0]


def _log_relations(value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """(batch, sequence, d) -> log R: (batch, r, sequence, sequence)."""
    slices = value.reshape(*value.shape[:-1], heads, -1).transpose(1, 2)
    scores = slices @ slices.transpose(-1, -2) / slices.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask[:, None, None, :] == 0, -torch.inf)
    return nn.functional.log_softmax(scores, dim=-1)
