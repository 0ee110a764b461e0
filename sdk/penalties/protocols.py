"""What every penalty has: a value; and what a penalty of weights has besides: a proximal operator."""

from typing import Literal, Protocol, runtime_checkable

from torch import Tensor

from edgefold.errors import InputError

Metric = Literal["element", "group", "matrix"]
Step = Tensor | float


@runtime_checkable
class Penalty(Protocol):
    """strength * r(x), a term of the loss."""

    @property
    def strength(self) -> float: ...

    def value(self, x: Tensor, /) -> Tensor:
        """strength * r(x), differentiable: a scalar."""
        ...


@runtime_checkable
class WeightPenalty(Penalty, Protocol):
    """A penalty of weights. It acts on one matrix at a time: (groups, elements), see `penalized_weights`.

    Laws: `prox(w, step)` is the minimiser over x of |x - w|^2 / (2 step) + value(x); with step = 0 it is w; and what it
    sets to zero, or takes off the rank, is exactly zero (of that rank, but for rounding).
    """

    @property
    def where(self) -> str:
        """Parameters by a qualified name of theirs or of their module, a part of it between dots, or a glob."""
        ...

    @property
    def proximal(self) -> bool:
        """Whether the proximal step follows the optimizer's; else the value is a term of the loss."""
        ...

    @property
    def metric(self) -> Metric:
        """For what a step may be given apart: each element, each group (row), or the matrix as a whole."""
        ...

    def interval(self, shape: tuple[int, ...]) -> int:
        """Optimizer steps from one proximal step on a matrix of this shape to the next."""
        ...

    def prox(self, weight: Tensor, step: Step) -> Tensor:
        """The proximal operator; step is a number, or as the metric has it (groups, elements), (groups, 1) or ()."""
        ...


def check_strength(name: str, strength: object) -> None:
    """Refuse what is no strength.

    Raises:
        InputError: it is not a finite number of at least 0.
    """
    if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 <= strength < float("inf"):
        raise InputError(f"The strength of {name} must be a finite number of at least 0; got {strength!r}.")
