"""Group lasso: whole rows, columns, neurons, heads or embedding columns die together."""

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import torch
from torch import Tensor

from edgefold.penalties.protocols import Metric, Step, check_strength


@dataclass(frozen=True)
class GroupLasso:
    """strength * sum over groups g of sqrt(|g|) |w_g|_2 (Yuan and Lin, 2006)."""

    strength: float
    groups: str = "rows"
    """"rows" or "columns" of the matrices that `where` names; or dimensions of the student, by a name, a family or a
    glob ("ffn", "heads.*", "hidden"): then a group is all that runs along one coordinate, biases included, of every
    parameter that `where` names."""
    where: str = "*"
    proximal: bool = True
    metric: ClassVar[Metric] = "group"

    def __post_init__(self) -> None:
        check_strength("group_lasso", self.strength)

    def value(self, weight: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
        return self.strength * sqrt(weight.shape[1]) * norms.sum()

    def interval(self, shape: tuple[int, ...]) -> int:
        return 1

    def prox(self, weight: Tensor, step: Step) -> Tensor:
        """w_g max(1 - strength sqrt(|g|) step / |w_g|, 0), the block soft threshold."""
        norms = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
        threshold = self.strength * sqrt(weight.shape[1]) * step
        share = ((norms - threshold) / norms.clamp_min(torch.finfo(weight.dtype).tiny)).clamp_min(0)
        return torch.where(share > 0, weight * share, 0)
