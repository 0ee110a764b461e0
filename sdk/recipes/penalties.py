"""Penalties in a recipe: a list whose entries each have one key, the kind, and its settings below it."""

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from edgefold.penalties import Penalty

Strength = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Name = Annotated[str, Field(min_length=1)]


class Settings(BaseModel):
    """Immutable, and no key but the known ones."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightSettings(Settings):
    """How strong, on which weights, and whether by a proximal step or as a term of the loss."""

    strength: Strength
    where: Name = "*"
    proximal: bool = True


class ElasticNetSettings(WeightSettings):
    """As of the weights, and L1's share."""

    l1_share: Annotated[float, Field(ge=0, le=1)] = 0.5


class NuclearNormSettings(WeightSettings):
    """As of the weights, and how often."""

    every: Annotated[int, Field(strict=True, ge=1)] | None = None


class GroupLassoSettings(WeightSettings):
    """As of the weights, and which groups: "rows", "columns", or a dimension."""

    groups: Name = "rows"


class OrthogonalitySettings(Settings):
    """How strong."""

    strength: Strength


class ActivationSettings(Settings):
    """How strong, and on which modules' outputs."""

    strength: Strength
    where: Name


class PenaltyEntry(Settings):
    """One penalty; exactly one of its keys is given."""

    l1: WeightSettings | None = None
    l2: WeightSettings | None = None
    elastic_net: ElasticNetSettings | None = None
    nuclear_norm: NuclearNormSettings | None = None
    group_lasso: GroupLassoSettings | None = None
    orthogonality: OrthogonalitySettings | None = None
    activation_l1: ActivationSettings | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "PenaltyEntry":
        given = self.model_fields_set
        if len(given) != 1 or getattr(self, next(iter(given))) is None:
            names = ", ".join(sorted(given)) or "nothing"
            raise ValueError(f"a penalty has exactly one of {', '.join(type(self).model_fields)}; got {names}")
        return self

    def to_penalty(self) -> "Penalty":
        """The penalty that an Objective takes; imports torch."""
        from edgefold.penalties import PENALTIES

        (kind,) = self.model_fields_set
        return PENALTIES[kind](**getattr(self, kind).model_dump())
