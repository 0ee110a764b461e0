"""The Kullback-Leibler divergence of two models' answers, a few rows at a time: vocabularies are large."""

from typing import Any

import torch
from torch import Tensor

ELEMENTS = {"cpu": 2**18}
MANY = 2**24
"""Logits that are looked at together: few enough that what is computed of them stays in a CPU's cache, and elsewhere so
many that launching it takes no time beside computing it."""


def divergence(student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """sum_i weights_i KL(softmax(teacher_i / tau) || softmax(student_i / tau)), and its gradient to the student alone.

    The gradient, weights_i (softmax(student_i / tau) - softmax(teacher_i / tau)) / tau, is computed with the value.
    It is the only tensor of the logits' size that is made: probabilities of 16,384 tokens among 49,152 words take 3 GiB
    in float32, whichever halves the logits are in. There is no second derivative.

    Args:
        student, teacher: (rows, classes).
        weights: (rows,), without a gradient.
    """
    value: Tensor = _Divergence.apply(student, teacher, weights, temperature)  # type: ignore[no-untyped-call]
    return value


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
        precision = torch.promote_types(student.dtype, torch.float32)
        total = weights.new_zeros((), dtype=precision)
        gradient = torch.empty_like(student, dtype=_of_gradients(student)) if ctx.needs_input_grad[0] else None
        rows = max(1, ELEMENTS.get(student.device.type, MANY) // student.shape[-1])
        for start in range(0, len(student), rows):
            part = slice(start, start + rows)
            mine, other = ((logits[part].to(precision) / temperature).log_softmax(-1) for logits in (student, teacher))
            weight = weights[part].to(precision)
            wanted = other.exp()
            total += (weight * (wanted * other.sub_(mine)).sum(-1)).sum()  # a product would follow autocast
            if gradient is not None:
                gradient[part] = mine.exp_().sub_(wanted).mul_(weight[:, None] / temperature)
        ctx.save_for_backward(gradient)
        ctx.precision = student.dtype
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * upstream).to(ctx.precision), None, None, None


def _of_gradients(student: Tensor) -> torch.dtype:
    """A loss in float16 is scaled only after this, and a share of its gradient would be zero there."""
    return torch.float32 if student.dtype == torch.float16 else student.dtype
