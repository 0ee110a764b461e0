"""The `plan:` section of a recipe: the steps of a Plan, each with its settings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgefold.plans import STEPS, Step
from edgefold.recipes.sections import Count, Name, Section, Share, Weight


class ResizeSettings(Section):
    """New size of the dimensions that a name, a family or a glob stands for."""

    dimension: Name
    size: Count


class ProjectSettings(ResizeSettings):
    """The same, and which activations count for the start."""

    emphasis: dict[Name, Weight] | None = None
    """Module path or glob -> weight; 1 elsewhere."""


class LowRankSettings(Section):
    """Rank, or energy kept, of the factors of the matrices that a name or a glob stands for."""

    where: Name
    rank: Count | None = None
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    multiple_of: Count = 8


class DropLayersSettings(Section):
    """The layers that stay of a stack: by index, or every n-th."""

    keep: tuple[Annotated[int, Field(strict=True, ge=0)], ...] | None = None
    every: Count | None = None
    stack: Name | None = None


class ShareLayersSettings(Section):
    """Into how many groups of layers that share their parameters a stack is parted."""

    groups: Count = 1
    stack: Name | None = None
    start: Literal["mean", "first"] = "mean"


class BottleneckSettings(Section):
    """The nonlinear projection after each layer of a stack."""

    size: Count
    where: Name = "layers"
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    residual: bool = True


class MaskSettings(Section):
    """Which weights are held at zero, and from when to when in training their number grows."""

    where: Name = "*"
    score: Literal["magnitude", "movement", "wanda"] = "magnitude"
    begin: Share = 0.0
    end: Share = 0.5


class UnstructuredSettings(MaskSettings):
    """The share of single weights."""

    sparsity: Annotated[float, Field(gt=0, lt=1)]


class BlockSettings(UnstructuredSettings):
    """The share of blocks of this shape, outputs and inputs."""

    shape: tuple[Count, Count] = (4, 4)


class NMSettings(MaskSettings):
    """How many of how many consecutive inputs are kept."""

    n: Count
    m: Count
    end: Share = 0.0


class PlanStep(Section):
    """One step of the plan; exactly one of its keys is given."""

    project: ProjectSettings | None = None
    select: ResizeSettings | None = None
    low_rank: LowRankSettings | None = None
    drop_layers: DropLayersSettings | None = None
    share_layers: ShareLayersSettings | None = None
    bottleneck: BottleneckSettings | None = None
    unstructured: UnstructuredSettings | None = None
    block: BlockSettings | None = None
    nm: NMSettings | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "PlanStep":
        if len(self.model_fields_set) != 1 or self.to_step() is None:
            given = ", ".join(sorted(self.model_fields_set)) or "nothing"
            raise ValueError(f"a step has exactly one of {', '.join(STEPS)}; got {given}")
        return self

    def to_step(self) -> Step | None:
        """The step of a Plan; None only where validation has not been passed.

        Raises:
            InputError: its keys do not go together.
        """
        given = {key: settings for key in STEPS if (settings := getattr(self, key)) is not None}
        return next((STEPS[key](**settings.model_dump()) for key, settings in given.items()), None)
