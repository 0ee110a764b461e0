"""The soft threshold, from which the proximal operators of all norms here are made."""

from torch import Tensor

from edgefold.penalties.protocols import Step


def shrink(x: Tensor, threshold: Step) -> Tensor:
    """sign(x) * max(|x| - threshold, 0): what is below the threshold becomes exactly zero (Donoho, 1995)."""
    return x.sign() * (x.abs() - threshold).clamp_min(0)
