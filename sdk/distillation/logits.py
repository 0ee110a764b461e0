"""Logits: the divergence between what teacher and student answer, and where a model keeps its answer."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edgefold.distillation.masking import mean_weights
from edgefold.distillation.row_divergences import divergence
from edgefold.errors import InputError

IGNORED = -100
"""The label that no loss and no metric looks at: of special tokens, of padding, of all that is not to be predicted."""


def logits_loss(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """tau^2 * mean KL(softmax(teacher / tau) || softmax(student / tau)) (Hinton, Vinyals and Dean, 2015).

    Args:
        student, teacher: (..., classes); the gradient is the student's alone. The factor tau^2 keeps its scale whatever
            the temperature.
        mask: (...), nonzero where a position counts; all count when left out.

    Raises:
        InputError: their last axes differ, so that they speak of different classes or vocabularies; or there is but
            one class, of which nothing can be told.
    """
    if student.shape[-1] != teacher.shape[-1]:
        raise InputError(
            f"The student's logits have {student.shape[-1]} classes, the teacher's {teacher.shape[-1]}: their "
            "vocabularies or labels differ, so that no divergence is defined. Set logits=0, or give both the same "
            "(trim_vocabulary cuts a teacher and its tokenizer together)."
        )
    if student.shape[-1] == 1:
        raise InputError(
            "The models return one number for an example, which is no choice among classes, so that no divergence is "
            "defined. Set logits=0, and outputs=0.7 to match the number."
        )
    weights = mean_weights(student.detach()[..., 0].to(torch.promote_types(student.dtype, torch.float32)), mask)
    mine, other = (logits.reshape(-1, logits.shape[-1]) for logits in (student, teacher))
    return temperature**2 * divergence(mine, other, weights.flatten(), temperature)


def classes_last(logits: Tensor) -> Tensor:
    """Logits with the axis of the classes at the end.

    It is there in (..., classes) of up to three axes; a map over places, (rows, classes, height, width), has it second.
    """
    return logits.movedim(1, -1) if logits.dim() > 3 else logits


def logits_of(outputs: Any) -> Tensor:
    """The logits of a model's output: `.logits`, the item "logits", the tensor itself, or the first of a tuple.

    Of a model that points at the two ends of a span, (batch, 2, sequence): `start_logits` and `end_logits`. Of one
    that is pre-trained on masked tokens and pairs: `prediction_logits`.

    Raises:
        InputError: none of these.
    """
    if isinstance(outputs, Tensor):
        return outputs
    logits = getattr(outputs, "logits", None)
    if logits is None and hasattr(outputs, "start_logits"):
        logits = torch.stack([outputs.start_logits, outputs.end_logits], 1)
    if logits is None:
        logits = getattr(outputs, "prediction_logits", None)
    if logits is None and isinstance(outputs, Mapping):
        logits = outputs.get("logits")
    if logits is None and isinstance(outputs, tuple) and outputs:
        logits = outputs[0]
    if not isinstance(logits, Tensor):
        raise InputError(
            f"The model returned {type(outputs).__name__} without logits; return a tensor, a tuple that begins "
            "with it, or an output with `logits`."
        )
    return logits
