"""What to shrink: projections, selections, low-rank factors and whole layers, put together in a plan."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from edgefold.errors import InputError
from edgefold.masks.steps import NM, Block, Unstructured


@dataclass(frozen=True)
class Project:
    """Map a linear dimension (such as the residual stream) to `size` coordinates; starts at the activations' PCA.

    Within attention heads (`value_dim`) each head has a projection of its own: the joint rank of its value and output
    matrices, which starts at the truncation that loses least of their product.
    """

    dimension: str
    """A name, a family ("ffn" for ffn.0, ffn.1, ...) or a glob."""
    size: int
    emphasis: Mapping[str, float] | None = None
    """Module path or glob -> how much the activations read or normalised there count for the start; 1 elsewhere."""

    def __post_init__(self) -> None:
        _check_positive("Project", "size", self.size)
        for where, weight in (self.emphasis or {}).items():
            if not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
                raise InputError(
                    f"Project({self.dimension!r}, emphasis={{{where!r}: {weight!r}}}) must be a finite number of at "
                    "least 0; 3 makes a layer count three times."
                )


@dataclass(frozen=True)
class Select:
    """Keep the `size` most important coordinates (neurons, channels, whole heads) of each dimension it names."""

    dimension: str
    size: int

    def __post_init__(self) -> None:
        _check_positive("Select", "size", self.size)


@dataclass(frozen=True)
class LowRank:
    """Replace matrices by factors W = B A, from the activation-whitened SVD; one that would not shrink stays dense.

    Give the rank, or the energy to keep: then each matrix has the smallest rank r, rounded up to a multiple of
    `multiple_of`, with sum_{i<=r} sigma_i^2 >= energy * sum_i sigma_i^2. The sigma are the singular values of W S,
    S S^T = E[x x^T].

    Source: ALBERT's factorized embedding (Lan et al., 2020) and SVD-LLM's whitening (Wang et al., 2024).
    """

    where: str
    """A module's qualified name, a part of it between dots, or a glob."""
    rank: int | None = None
    energy: float | None = None
    """0 < energy <= 1, a share."""
    multiple_of: int = 8
    """What a rank chosen by energy is rounded up to; hardware likes multiples of 8."""

    def __post_init__(self) -> None:
        if (self.rank is None) == (self.energy is None):
            raise InputError(
                f"LowRank({self.where!r}, rank={self.rank}, energy={self.energy}) needs exactly one of rank and energy."
            )
        if self.rank is not None:
            _check_positive("LowRank", "rank", self.rank)
        elif not _is_share(self.energy):
            raise InputError(f"LowRank(energy={self.energy!r}) must be a share above 0 and at most 1, such as 0.95.")
        _check_positive("LowRank", "multiple_of", self.multiple_of)


@dataclass(frozen=True)
class DropLayers:
    """Keep some layers of a stack, in their order (DistilBERT's every second layer, Sanh et al., 2019)."""

    keep: Sequence[int] | None = None
    """Indices of the layers that stay, from 0, ascending."""
    every: int | None = None
    """Instead of `keep`: the last of each run of `every` layers stays, 1, 3, 5, ... for 2."""
    stack: str | None = None
    """The list of layers: a qualified name, a part of it, or a glob. Left out, the model's longest."""

    def __post_init__(self) -> None:
        if (self.keep is None) == (self.every is None):
            raise InputError(f"DropLayers(keep={self.keep}, every={self.every}) needs exactly one of keep and every.")
        if self.keep is None:
            _check_positive("DropLayers", "every", self.every)
            return
        object.__setattr__(self, "keep", tuple(self.keep))
        if not self.keep or any(not _is_count(index) for index in self.keep) or not _is_ascending(self.keep):
            raise InputError(
                f"DropLayers(keep={self.keep}) must name at least one layer, by indices from 0 in ascending order."
            )

    def kept(self, depth: int) -> tuple[int, ...]:
        """The indices that stay of `depth` layers; none when `every` is larger."""
        return tuple(self.keep) if self.keep is not None else tuple(range(depth))[(self.every or 1) - 1 :: self.every]


@dataclass(frozen=True)
class ShareLayers:
    """The layers of each of `groups` runs of equal length share one set of parameters (ALBERT, Lan et al., 2020)."""

    groups: int = 1
    stack: str | None = None
    """As for DropLayers."""
    start: str = "mean"
    """Where the shared parameters start: the "mean" of the run's layers, or its "first" layer."""

    def __post_init__(self) -> None:
        _check_positive("ShareLayers", "groups", self.groups)
        if self.start not in ("mean", "first"):
            raise InputError(f"ShareLayers(start={self.start!r}) is not known; choose mean or first.")


@dataclass(frozen=True)
class Bottleneck:
    """After each layer a nonlinear projection x + U act(V x), V: (size, d), U: (d, size), which stays a module.

    U starts at zero, so the function starts unchanged. Without `residual` it is U act(V x + b) + c, started in the
    linear range of the activation as the projection on the principal directions of x. Source: residual adapters
    (Houlsby et al., 2019).
    """

    size: int
    where: str = "layers"
    """A list of layers as for DropLayers; "layers" stands for the model's longest."""
    activation: str = "gelu"
    residual: bool = True

    def __post_init__(self) -> None:
        _check_positive("Bottleneck", "size", self.size)
        if self.activation not in ACTIVATIONS:
            raise InputError(
                f"Bottleneck(activation={self.activation!r}) is not known; choose one of {', '.join(ACTIVATIONS)}."
            )


ACTIVATIONS = ("gelu", "relu", "silu")
Step = Project | Select | LowRank | DropLayers | ShareLayers | Bottleneck | Unstructured | Block | NM
STEPS: dict[str, type[Step]] = {
    "project": Project,
    "select": Select,
    "low_rank": LowRank,
    "drop_layers": DropLayers,
    "share_layers": ShareLayers,
    "bottleneck": Bottleneck,
    "unstructured": Unstructured,
    "block": Block,
    "nm": NM,
}


@dataclass(frozen=True)
class Plan:
    """The steps that make a student from a teacher; each dimension is resized at most once.

    DropLayers and ShareLayers act first, on a copy of the teacher: dimensions are those of what they leave.
    """

    steps: Sequence[Step]

    def __post_init__(self) -> None:
        for step in self.steps:
            if not isinstance(step, get_args(Step)):
                names = ", ".join(kind.__name__ for kind in STEPS.values())
                raise InputError(f"A plan consists of steps ({names}); got {step!r}.")

    def to_dicts(self) -> list[dict[str, dict[str, Any]]]:
        """A JSON-able form, the same as in a recipe."""
        keys = {step_type: key for key, step_type in STEPS.items()}
        return [
            {keys[type(step)]: {name: _plain(value) for name, value in vars(step).items() if value is not None}}
            for step in self.steps
        ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_positive(step: str, name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{step}({name}={value!r}) must be a whole number of at least 1.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_ascending(values: Sequence[int]) -> bool:
    return list(values) == sorted(set(values))


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 < value <= 1
