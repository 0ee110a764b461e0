"""Penalties on the weights: terms of the loss that draw weights towards zero."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from edgefold.errors import InputError


@dataclass(frozen=True)
class L1:
    """strength * sum |w| (Tibshirani, 1996)."""

    strength: float

    def __post_init__(self) -> None:
        _check_strength("l1", self.strength)

    def value(self, weights: Iterable[Tensor]) -> Tensor:
        """A scalar; zero where there are no weights."""
        return self.strength * _total(weight.abs().sum() for weight in weights)


@dataclass(frozen=True)
class L2:
    """strength * sum w^2. Unlike AdamW's decoupled decay it goes through the optimizer's moments."""

    strength: float

    def __post_init__(self) -> None:
        _check_strength("l2", self.strength)

    def value(self, weights: Iterable[Tensor]) -> Tensor:
        """A scalar; zero where there are no weights."""
        return self.strength * _total(weight.square().sum() for weight in weights)


Penalty = L1 | L2


def _total(terms: Iterable[Tensor]) -> Tensor:
    return sum(terms, start=torch.zeros(()))


def _check_strength(name: str, strength: float) -> None:
    if not 0 <= strength < float("inf"):
        raise InputError(f"The strength of {name} must be a finite number of at least 0; got {strength}.")
