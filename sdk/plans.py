"""What to shrink: projections, selections and low-rank factors, put together in a plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgefold.errors import InputError


@dataclass(frozen=True)
class Project:
    """Map a linear dimension (such as the residual stream) to `size` coordinates; starts at the activations' PCA."""

    dimension: str
    """A name, a family ("ffn" for ffn.0, ffn.1, ...) or a glob."""
    size: int

    def __post_init__(self) -> None:
        _check_positive("Project", "size", self.size)


@dataclass(frozen=True)
class Select:
    """Keep the `size` most important coordinates (neurons, channels, whole heads) of each dimension it names."""

    dimension: str
    size: int

    def __post_init__(self) -> None:
        _check_positive("Select", "size", self.size)


@dataclass(frozen=True)
class LowRank:
    """Replace matrices by factors W = B A of rank `rank`, from the activation-whitened SVD.

    Source: ALBERT's factorized embedding (Lan et al., 2020) and SVD-LLM's whitening (Wang et al., 2024).
    """

    where: str
    """A module's qualified name, a part of it between dots, or a glob."""
    rank: int

    def __post_init__(self) -> None:
        _check_positive("LowRank", "rank", self.rank)


Step = Project | Select | LowRank
STEPS: dict[str, type[Step]] = {"project": Project, "select": Select, "low_rank": LowRank}


@dataclass(frozen=True)
class Plan:
    """The steps that make a student from a teacher; each dimension is resized at most once."""

    steps: Sequence[Step]

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, Project | Select | LowRank):
                raise InputError(f"A plan consists of Project, Select and LowRank steps; got {step!r}.")

    def to_dicts(self) -> list[dict[str, dict[str, Any]]]:
        """A JSON-able form, the same as in a recipe."""
        keys = {step_type: key for key, step_type in STEPS.items()}
        return [{keys[type(step)]: dict(vars(step))} for step in self.steps]


def _check_positive(step: str, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{step}({name}={value!r}) must be a whole number of at least 1.")
