"""Losses between teacher and student, and the objective that weighs them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.penalties import L1, L2, Penalty, check_penalties


@dataclass(frozen=True)
class Objective:
    """task * L_task + logits * tau^2 KL(teacher || student) + hidden * L_hidden + l1 * sum |w| + l2 * sum w^2.

    Beside these terms it has `penalties`: each is a further term, or a proximal step after the optimizer's.
    """

    task: float = 0.3
    logits: float = 0.7
    hidden: float = 1.0
    temperature: float = 2.0
    l1: float = 0.0
    l2: float = 0.0
    penalties: tuple[Penalty, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "penalties", check_penalties(self.penalties))
        for item in fields(self):
            if item.name == "penalties":
                continue
            value = getattr(self, item.name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise InputError(f"Objective({item.name}={value!r}) must be a finite number of at least 0.")
        if self.temperature == 0:
            raise InputError("Objective(temperature=0) must be above 0; 2.0 is a common choice.")
        if self.task + self.logits + self.hidden == 0:
            raise InputError("Objective has nothing to learn from: give task, logits or hidden a weight above 0.")

    @property
    def all_penalties(self) -> tuple[Penalty, ...]:
        """l1 and l2 as terms of the loss, and the others."""
        l1 = (L1(self.l1, proximal=False),) if self.l1 else ()
        l2 = (L2(self.l2, proximal=False),) if self.l2 else ()
        return (*l1, *l2, *self.penalties)

    @property
    def needs_teacher(self) -> bool:
        return self.logits > 0 or self.hidden > 0


def logits_loss(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """tau^2 * mean KL(softmax(teacher / tau) || softmax(student / tau)) (Hinton, Vinyals and Dean, 2015).

    Args:
        student, teacher: (..., classes). The factor tau^2 keeps the gradient's scale whatever the temperature.
        mask: (...), nonzero where a position counts; all count when left out.
    """
    log_student = nn.functional.log_softmax(student / temperature, dim=-1)
    log_teacher = nn.functional.log_softmax(teacher / temperature, dim=-1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return temperature**2 * _masked_mean(divergence, mask)


def hidden_loss(student: Tensor, teacher: Tensor, projection: Tensor | None, mask: Tensor | None = None) -> Tensor:
    """E|h_s - h_t P|^2 / E|h_t P|^2: the share of the teacher's (projected) energy that the student misses.

    Args:
        student: (..., p).
        teacher: (..., d).
        projection: P (d, p), or None where p = d.
        mask: the leading axes, nonzero where a position counts.
    """
    target = teacher if projection is None else teacher @ projection
    missed = _masked_mean((student - target).square().sum(-1), mask)
    return missed / _masked_mean(target.square().sum(-1), mask).clamp_min(1e-12)


@contextmanager
def captured_outputs(module: nn.Module, paths: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block, collect the output of each named submodule of every forward pass (the last one stays)."""
    outputs: dict[str, Tensor] = {}
    handles = [
        module.get_submodule(path).register_forward_hook(
            lambda _module, _args, out, path=path: outputs.update({path: out})
        )
        for path in paths
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def logits_of(outputs: Any) -> Tensor:
    """The logits of a model's output: `.logits`, the item "logits", the tensor itself, or the first of a tuple.

    Raises:
        InputError: none of these.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits = getattr(outputs, "logits", None)
    if logits is None and isinstance(outputs, Mapping):
        logits = outputs.get("logits")
    if logits is None and isinstance(outputs, tuple) and outputs:
        logits = outputs[0]
    if not isinstance(logits, Tensor):
        raise InputError(
            f"The model returned {type(outputs).__name__} without logits; return a tensor, a tuple that begins "
            "with it, or "
            "an output with `logits`."
        )
    return logits


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None or mask.shape != values.shape:
        return values.mean()
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp_min(1)


def token_mask(batch: Mapping[str, Any], like: Tensor) -> Tensor | None:
    """The batch's attention mask where `like` has a value per token: (batch, sequence, ...); else None."""
    mask = batch.get("attention_mask")
    return mask if isinstance(mask, torch.Tensor) and like.shape[:2] == mask.shape and like.dim() > 2 else None
