"""L2: weights stay small."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from edgefold.penalties.protocols import Metric, Step, check_strength


@dataclass(frozen=True)
class L2:
    """strength * sum w^2 (Hoerl and Kennard, 1970).

    As a term of the loss it goes, unlike AdamW's decoupled decay, through the optimizer's moments; its proximal step
    does not.
    """

    strength: float
    where: str = "*"
    proximal: bool = True
    metric: ClassVar[Metric] = "element"

    def __post_init__(self) -> None:
        check_strength("l2", self.strength)

    def value(self, weight: Tensor) -> Tensor:
        return self.strength * weight.square().sum()

    def interval(self, shape: tuple[int, ...]) -> int:
        return 1

    def prox(self, weight: Tensor, step: Step) -> Tensor:
        """w / (1 + 2 strength step); exact in any diagonal metric."""
        return weight / (1 + 2 * self.strength * step)
