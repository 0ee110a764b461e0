"""Operators for which torch has no ONNX, written with others that it has."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

aten = torch.ops.aten


def _kth_value(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    values, places = (sorted_.narrow(dim, k - 1, 1) for sorted_ in torch.sort(x, dim=dim))
    return (values, places) if keepdim else (values.squeeze(dim), places.squeeze(dim))


def _median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of the two middle values."""
    return _kth_value(x, (x.shape[dim] + 1) // 2, dim, keepdim)


def _distances(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: Any = None) -> Tensor:
    """(..., n, d), (..., m, d) -> (..., n, m), by differences, which lose no digits between points that are close."""
    distances: Tensor = torch.linalg.vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), ord=p, dim=-1)
    return distances


def _hypotenuse(a: Tensor, b: Tensor) -> Tensor:
    return (a.square() + b.square()).sqrt()


def _mean_slope(x: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *_: Any, **__: Any) -> Tensor:
    """The randomized leaky ReLU in evaluation mode, the only one that is exported."""
    return functional.leaky_relu(x, (lower + upper) / 2)


WRITTEN: dict[Any, Callable[..., Any]] = {
    aten.kthvalue.default: _kth_value,
    aten.median.dim: _median,
    torch.cdist: _distances,
    aten.cdist.default: _distances,
    aten.hypot.default: _hypotenuse,
    aten.rrelu.default: _mean_slope,
}
"""Operator -> the same, called alike."""
