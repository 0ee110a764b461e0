"""L1: single weights become zero."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgefold.penalties.protocols import Metric, Step, check_strength
from edgefold.penalties.soft_threshold import shrink


@dataclass(frozen=True)
class L1:
    """strength * sum |w| (Tibshirani, 1996)."""

    strength: float
    where: str = "*"
    proximal: bool = True
    metric: ClassVar[Metric] = "element"

    def __post_init__(self) -> None:
        check_strength("l1", self.strength)

    def value(self, weight: Tensor) -> Tensor:
        return self.strength * weight.abs().sum()

    def interval(self, shape: tuple[int, ...]) -> int:
        return 1

    def prox(self, weight: Tensor, step: Step) -> Tensor:
        """The soft threshold at strength * step; exact in any diagonal metric, since it acts element by element."""
        return shrink(weight, self.strength * step)
