"""Means over the positions that count: padding says nothing of student or teacher."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def token_mask(batch: Mapping[str, Any], like: Tensor) -> Tensor | None:
    """The batch's attention mask, or its decoder's, where `like` has a value per token: (batch, sequence, ...)."""
    masks = (batch.get(name) for name in ("attention_mask", "decoder_attention_mask"))
    fits = (mask for mask in masks if isinstance(mask, Tensor) and like.shape[:2] == mask.shape and like.dim() > 2)
    return next(fits, None)


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """The mean of values: (...) where mask: (...) is nonzero; of all without a mask of that shape."""
    if mask is None or mask.shape != values.shape:
        return values.mean()
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp_min(1)


def mean_weights(like: Tensor, mask: Tensor | None) -> Tensor:
    """Weights, of the shape of `like`, with which a sum is `masked_mean`."""
    if mask is None or mask.shape != like.shape:
        return torch.full_like(like, 1 / max(1, like.numel()))
    weights = mask.to(like.dtype)
    return weights / weights.sum().clamp_min(1)
