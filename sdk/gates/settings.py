"""Gates: which coordinates training may close, down to how many parameters, and when."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from edgefold.errors import InputError
from edgefold.hardware_sizes import MULTIPLE


@dataclass(frozen=True)
class Gates:
    """A hard concrete gate on every coordinate of some dimensions, trained until a share of the parameters is left.

    A gate multiplies its coordinate wherever that is read. The loss gets the Lagrangian lambda_1 e + lambda_2 e^2 of
    e = E[size] - target(t), whose multipliers ascend. target falls from 1 to `keep` during the warm-up. When the gates
    settle, the best coordinates whose size is at most `keep` stay, with the mean of their gates as factors; the rest of
    training is spent in that architecture, and `fold` leaves nothing of what is closed.

    Sources: Louizos, Welling, Kingma (2018); Wang, Wohlwend, Lei (2020); CoFi (Xia, Zhong, Chen, 2022).
    """

    where: str | Sequence[str]
    """Dimensions of the student, each by a name, a family or a glob: "ffn", "heads", ["ffn.*", "heads.0"]."""
    keep: float
    """0 < keep < 1, the share of the parameters that run along these dimensions."""
    warmup: float = 0.4
    """The share of training during which the target falls to `keep`."""
    settle: float = 0.7
    """The share of training after which it is decided which coordinates stay."""
    learning_rate: float = 0.05
    """Of the gates, constant: they are trained by the optimizer of the weights."""
    multiplier_rate: float = 0.5
    """Of the multipliers, which ascend."""
    multiple_of: int = MULTIPLE
    """What sizes but for numbers of heads become a multiple of."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        names = (self.where,) if isinstance(self.where, str) else tuple(self.where)
        object.__setattr__(self, "where", names)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise InputError(f"Gates(where={self.where!r}) must name at least one dimension, such as 'ffn' or 'heads'.")
        if not _is_number(self.keep) or not 0 < self.keep < 1:
            raise InputError(f"Gates(keep={self.keep!r}) must be a share between 0 and 1, such as 0.4.")
        if not self._is_span():
            raise InputError(
                f"Gates(warmup={self.warmup!r}, settle={self.settle!r}) must be shares of training with 0 <= warmup <= "
                "settle <= 1 and settle above 0."
            )
        for name in ("learning_rate", "multiplier_rate"):
            if not _is_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise InputError(
                    f"Gates({name}={getattr(self, name)!r}) must be a finite number above 0; 0.05 is usual."
                )
        for name, least in (("multiple_of", 1), ("seed", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**32:
                raise InputError(f"Gates({name}={value!r}) must be a whole number of at least {least}, below 2**32.")

    def _is_span(self) -> bool:
        numbers = _is_number(self.warmup) and _is_number(self.settle)
        return numbers and 0 <= self.warmup <= self.settle <= 1 and self.settle > 0

    def target(self, progress: float) -> float:
        """The share that is aimed at when this share of training is over: 1 - (1 - keep) min(1, progress / warmup)."""
        return self.keep if progress >= self.warmup else 1 - (1 - self.keep) * progress / self.warmup


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
