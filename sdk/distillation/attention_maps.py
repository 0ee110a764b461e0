"""Attention maps: where each token looks, head by head where the student's heads are the teacher's."""

from collections.abc import Sequence

from torch import Tensor

from edgefold.distillation.masking import masked_mean
from edgefold.errors import InputError


def attention_loss(
    student: Tensor, teacher: Tensor, heads: Sequence[int] | None = None, mask: Tensor | None = None
) -> Tensor:
    """E|A_s - A_t|^2 / E|A_t|^2 over the rows of attention probabilities (after Jiao et al., 2020).

    Args:
        student: (batch, heads, queries, keys).
        teacher: (batch, heads, queries, keys), perhaps of another number of heads.
        heads: for each head of the student the teacher's that it stems from. Where it is left out and the numbers of
            heads differ, the means over all heads are compared.
        mask: (batch, queries), nonzero where a query counts.

    Raises:
        InputError: the sequences differ in length, or `heads` does not name one head for each of the student's.
    """
    if student.shape[0::2] != teacher.shape[0::2] or student.shape[-1] != teacher.shape[-1]:
        raise InputError(
            f"Attention maps of shapes {tuple(student.shape)} (student) and {tuple(teacher.shape)} (teacher) cannot be "
            "compared; both must read the same sequences. Set attention=0 for this pair."
        )
    if heads is not None:
        if len(heads) != student.shape[1] or not all(0 <= head < teacher.shape[1] for head in heads):
            raise InputError(
                f"heads={tuple(heads)} does not fit {student.shape[1]} heads of the student and {teacher.shape[1]} of "
                "the teacher; name one of the teacher's for each of the student's."
            )
        teacher = teacher[:, list(heads)]
    elif student.shape[1] != teacher.shape[1]:
        student, teacher = student.mean(1, keepdim=True), teacher.mean(1, keepdim=True)
    missed = (student - teacher).square().sum(-1).mean(1)
    energy = teacher.square().sum(-1).mean(1)
    return masked_mean(missed, mask) / masked_mean(energy, mask).clamp_min(1e-12)
