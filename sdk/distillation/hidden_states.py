"""Hidden states: the share of the teacher's energy that the student misses."""

from torch import Tensor

from edgefold.distillation.masking import masked_mean


def hidden_loss(
    student: Tensor, teacher: Tensor, projection: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """E|h_s - h_t P|^2 / E|h_t P|^2: the share of the teacher's (projected) energy that the student misses.

    The normaliser lets layers, and models, of any scale weigh alike; without it this is the loss of TinyBERT (Jiao et
    al., 2020).

    Args:
        student: (..., p).
        teacher: (..., d).
        projection: P (d, p), or None where p = d.
        mask: the leading axes, nonzero where a position counts.
    """
    target = teacher if projection is None else teacher @ projection
    missed = masked_mean((student - target).square().sum(-1), mask)
    return missed / masked_mean(target.square().sum(-1), mask).clamp_min(1e-12)
