"""L1 of activations: few units answer at once."""

from dataclasses import dataclass

from torch import Tensor

from edgefold.penalties.protocols import check_strength


@dataclass(frozen=True)
class ActivationL1:
    """strength * mean |a| over the outputs a of each module that `where` names, padding left out.

    Source: Georgiadis (2019).
    """

    strength: float
    where: str
    """Modules by qualified name, its last part, or a glob."""

    def __post_init__(self) -> None:
        check_strength("activation_l1", self.strength)

    def value(self, activations: Tensor) -> Tensor:
        """activations: (..., features), those that count."""
        return self.strength * activations.abs().mean()
