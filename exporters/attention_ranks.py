"""Scaled dot-product attention of any rank as that of four axes, the only one that torch writes as ONNX."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

ATTENTIONS: tuple[Any, ...] = (
    functional.scaled_dot_product_attention,
    torch.ops.aten.scaled_dot_product_attention.default,
)
RANK = 4
"""(batch, heads, positions, features)."""


def attend(func: Any, *args: Any, **kwargs: Any) -> Tensor:
    """`func`, one of `ATTENTIONS`, with four axes: missing leading ones are 1, further ones are joined to the batch."""
    if len(args) < 3 or {t.dim() for t in args[:3]} == {RANK}:
        whole: Tensor = func(*args, **kwargs)
        return whole
    mask = args[3] if len(args) > 3 else kwargs.pop("attn_mask", None)
    return _attend(func, args[:3], mask, args[4:], kwargs)


def _attend(func: Any, projected: Sequence[Tensor], mask: Tensor | None, others: Sequence[Any], options: Any) -> Tensor:
    shapes = [*(t.shape[:-2] for t in projected), () if mask is None else mask.shape[:-2]]
    lead = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    queries, keys, values = (_with_four(t, lead) for t in projected)
    if mask is not None and mask.dim() > 2:
        mask = _with_four(mask, lead)
    attended: Tensor = func(queries, keys, values, mask, *others, **options)
    return attended.reshape(*lead, *attended.shape[-2:])


def _with_four(tensor: Tensor, lead: Sequence[int]) -> Tensor:
    """(..., rows, columns) as (batch, heads, rows, columns)."""
    whole = tensor.expand(*lead, *tensor.shape[-2:])
    if len(lead) > 2:
        return whole.flatten(0, -RANK)
    return whole.unsqueeze(-3) if len(lead) == 1 else whole[None, None] if not lead else whole
