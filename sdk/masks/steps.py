"""The steps of a plan that hold weights at zero: single weights, blocks, or N of every M, and their schedule."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from edgefold.errors import InputError

SCORES = ("magnitude", "movement", "wanda")
STAIRS = 50
"""In how many stairs a schedule rises. Each costs a selection over all masked weights, and training needs time between
two of them to repair what was taken away."""


@dataclass(frozen=True)
class Unstructured:
    """Hold a share of each matrix's weights at zero, those of the lowest score.

    Scores: "magnitude" is |w|; "wanda" is |w| * (E[x^2])^(1/2) over the calibrated inputs x of that weight, compared
    within each row of inputs (Sun et al., 2023); "movement" is the sum of -w * dL/dw over the steps of training, which
    is high for weights that training draws away from zero (Sanh, Wolf, Rush, 2020).
    """

    sparsity: float
    """0 < sparsity < 1, the share of zeros in the end."""
    where: str = "*"
    """A module's qualified name, a part of it between dots, or a glob; a raw parameter goes by its own name."""
    score: str = "magnitude"
    begin: float = 0.0
    """The share of training before which nothing is masked."""
    end: float = 0.5
    """The share of training after which nothing more is masked; at 0 the student starts with all its zeros."""

    def __post_init__(self) -> None:
        _check_sparsity("Unstructured", self.sparsity)
        _check_score("Unstructured", self.score, self.end)
        _check_span("Unstructured", self.begin, self.end)


@dataclass(frozen=True)
class Block:
    """Hold a share of each matrix's blocks at zero; a block's score is the sum of its weights' (see `Unstructured`)."""

    sparsity: float
    shape: Sequence[int] = (4, 4)
    """Outputs and inputs of a block; both must divide the matrix, which otherwise stays dense."""
    where: str = "*"
    score: str = "magnitude"
    begin: float = 0.0
    end: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if len(self.shape) != 2 or not all(_is_count(size) for size in self.shape):
            raise InputError(
                f"Block(shape={self.shape}) must be two whole numbers of at least 1 (outputs, inputs), such as (4, 4)."
            )
        _check_sparsity("Block", self.sparsity)
        _check_score("Block", self.score, self.end)
        _check_span("Block", self.begin, self.end)


@dataclass(frozen=True)
class NM:
    """Keep `n` of every `m` consecutive inputs of each output, those of the highest score (see `Unstructured`).

    Of a convolution these are consecutive channels at one place of the kernel, as sparse tensor cores want them. A
    matrix whose inputs `m` does not divide stays dense. Source: 2:4 sparsity (Mishra et al., 2021).
    """

    n: int
    m: int
    where: str = "*"
    score: str = "magnitude"
    begin: float = 0.0
    end: float = 0.0
    """At 0 the student starts with its pattern; otherwise m - 1, m - 2, ... of m are kept on the way to n."""

    def __post_init__(self) -> None:
        if not _is_count(self.n) or not _is_count(self.m) or self.n >= self.m:
            raise InputError(f"NM({self.n!r}, {self.m!r}) must be whole numbers with 1 <= n < m; such as NM(2, 4).")
        _check_score("NM", self.score, self.end)
        _check_span("NM", self.begin, self.end)

    @property
    def sparsity(self) -> float:
        return 1 - self.n / self.m


MaskStep = Unstructured | Block | NM


def sparsity_at(step: MaskStep, progress: float) -> float:
    """s_t = s (1 - (1 - t)^3), t = (progress - begin) / (end - begin), rounded down to a stair (Zhu and Gupta, 2017).

    Args:
        progress: the share of training that is over, from 0 to 1.
    """
    if progress >= step.end:
        return step.sparsity
    if progress <= step.begin:
        return 0.0
    t = int(STAIRS * (progress - step.begin) / (step.end - step.begin)) / STAIRS
    return float(step.sparsity * (1 - (1 - t) ** 3))


def zeros_at(step: MaskStep, units: int, progress: float) -> int:
    """How many of a matrix's units (weights, or blocks) are masked by then; in the end exactly sparsity * units."""
    if isinstance(step, NM) and progress >= step.end:
        return units // step.m * (step.m - step.n)
    return round(sparsity_at(step, progress) * units)


def _check_sparsity(step: str, sparsity: object) -> None:
    if not _is_number(sparsity) or not 0 < sparsity < 1:
        raise InputError(f"{step}(sparsity={sparsity!r}) must be a share between 0 and 1, such as 0.8.")


def _check_score(step: str, score: str, end: float) -> None:
    if score not in SCORES:
        raise InputError(f"{step}(score={score!r}) is not known; choose one of {', '.join(SCORES)}.")
    if score == "movement" and end == 0:
        raise InputError(
            f"{step}(score='movement', end=0) has no movement to go by: it is summed up while training; set end above "
            "0, such as 0.5."
        )


def _check_span(step: str, begin: object, end: object) -> None:
    if not _is_number(begin) or not _is_number(end) or not 0 <= begin <= end <= 1:
        raise InputError(
            f"{step}(begin={begin!r}, end={end!r}) must be shares of training with 0 <= begin <= end <= 1."
        )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
