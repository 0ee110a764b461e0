"""Elastic net: L1 and L2 together, so that correlated weights die or live together."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgefold.errors import InputError
from edgefold.penalties.protocols import Metric, Step, check_strength
from edgefold.penalties.soft_threshold import shrink


@dataclass(frozen=True)
class ElasticNet:
    """strength * (l1_share * sum |w| + (1 - l1_share) * sum w^2) (Zou and Hastie, 2005)."""

    strength: float
    l1_share: float = 0.5
    """From 0, L2 alone, to 1, L1 alone."""
    where: str = "*"
    proximal: bool = True
    metric: ClassVar[Metric] = "element"

    def __post_init__(self) -> None:
        check_strength("elastic_net", self.strength)
        if not 0 <= self.l1_share <= 1:
            raise InputError(f"ElasticNet(l1_share={self.l1_share!r}) must be a share from 0 (L2) to 1 (L1).")

    def value(self, weight: Tensor) -> Tensor:
        return self.strength * (self.l1_share * weight.abs().sum() + (1 - self.l1_share) * weight.square().sum())

    def interval(self, shape: tuple[int, ...]) -> int:
        return 1

    def prox(self, weight: Tensor, step: Step) -> Tensor:
        """The soft threshold of L1's part, then L2's division; exact in any diagonal metric."""
        sparse = shrink(weight, self.strength * self.l1_share * step)
        return sparse / (1 + 2 * self.strength * (1 - self.l1_share) * step)
