"""Cosine: the directions of hidden states, whatever their lengths."""

from torch import Tensor, nn

from edgefold.distillation.masking import masked_mean


def cosine_loss(
    student: Tensor, teacher: Tensor, projection: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """E[1 - cos(h_s, h_t P)] (Sanh et al., 2019).

    Args:
        student: (..., p).
        teacher: (..., d).
        projection: P (d, p), or None where p = d.
        mask: the leading axes, nonzero where a position counts.
    """
    target = teacher if projection is None else teacher @ projection
    return masked_mean(1 - nn.functional.cosine_similarity(student, target, dim=-1), mask)
