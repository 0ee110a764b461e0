"""Orthogonality of projections: they keep lengths and angles of what they keep."""

from dataclasses import dataclass

import torch
from torch import Tensor

from edgefold.penalties.protocols import check_strength


@dataclass(frozen=True)
class Orthogonality:
    """strength * |P^T P - I|_F^2 for each projection P of a student in mode projection or all.

    Source: soft orthogonality (Bansal, Chen and Wang, 2018).
    """

    strength: float

    def __post_init__(self) -> None:
        check_strength("orthogonality", self.strength)

    def value(self, projection: Tensor) -> Tensor:
        """projection: (d, p)."""
        gram = projection.T @ projection
        identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return self.strength * (gram - identity).square().sum()
