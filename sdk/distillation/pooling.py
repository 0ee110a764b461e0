"""Pooling: one vector for each example, from a vector for each of its tokens."""

from collections.abc import Callable

import torch
from torch import Tensor

from edgefold.errors import InputError


def pool(hidden: Tensor, mask: Tensor | None = None, how: str = "mean") -> Tensor:
    """(batch, sequence, d) -> (batch, d); one vector an example, (batch, d), stays as it is.

    Args:
        mask: (batch, sequence), nonzero where a token counts; all count when left out.
        how: "mean" over those tokens, "cls": the first token, or "last": the last that counts.

    Raises:
        InputError: another `how`, or a tensor of another rank.
    """
    if how not in POOLINGS:
        raise InputError(f"pooling={how!r} is not known; choose one of {', '.join(POOLINGS)}.")
    if hidden.dim() == 2:
        return hidden
    if hidden.dim() != 3:
        raise InputError(
            f"Pooling takes (batch, sequence, width) or (batch, width); got a tensor of shape {tuple(hidden.shape)}."
        )
    if mask is None:
        mask = torch.ones(hidden.shape[:2], dtype=torch.long, device=hidden.device)
    return POOLINGS[how](hidden, mask)


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    weights = mask.to(hidden.dtype)[..., None]
    return (hidden * weights).sum(1) / weights.sum(1).clamp_min(1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[:, 0]


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (places * (mask != 0)).amax(1)
    return hidden[torch.arange(len(hidden), device=hidden.device), last]


POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mean": _mean, "cls": _first, "last": _last}
