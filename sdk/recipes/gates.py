"""The section of a recipe about gates: which coordinates training may close, and down to what share."""

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from edgefold.gates.settings import Gates
from edgefold.recipes.sections import Count, Name, Section, Share

Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class GateSettings(Section):
    """Hard concrete gates, see `edgefold.Gates`."""

    where: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Dimensions of the student: names, families or globs; one may stand alone."""
    keep: Annotated[float, Field(gt=0, lt=1)]
    """The share of the parameters along these dimensions that stays."""
    warmup: Share = 0.4
    """The share of training during which the target falls to `keep`."""
    settle: Share = 0.7
    """The share of training after which it is decided what stays."""
    learning_rate: Rate = 0.05
    multiplier_rate: Rate = 0.5
    """Of the Lagrangian's multipliers."""
    multiple_of: Count = 8
    """What sizes but for numbers of heads become a multiple of."""

    @field_validator("where", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _go_together(self) -> "GateSettings":
        self.to_gates(0)
        return self

    def to_gates(self, seed: int) -> Gates:
        """The gates that `build_student` takes.

        Raises:
            InputError: warm-up and settling do not go together.
        """
        return Gates(**self.model_dump(), seed=seed)
