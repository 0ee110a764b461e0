"""Layouts: which dimensions every axis of a tensor runs along, and what a change of their sizes does to its shape."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor


@dataclass(frozen=True)
class Factor:
    """One factor of an axis: the dimension it runs along, or a direct sum of products of such, and its size."""

    dimension: str
    """Empty for a direct sum, and for an axis of activations that no parameter shares."""
    size: int
    parts: tuple[tuple["Factor", ...], ...] = ()
    """The summands, one after the other; empty for a single dimension."""

    def names(self) -> Iterator[str]:
        """Every dimension that it consists of."""
        if not self.parts:
            yield self.dimension
        for part in self.parts:
            for factor in part:
                yield from factor.names()

    def resized(self, sizes: Mapping[str, int]) -> "Factor":
        """The same with some dimensions at new sizes."""
        if not self.parts:
            return Factor(self.dimension, sizes.get(self.dimension, self.size))
        parts = tuple(tuple(factor.resized(sizes) for factor in part) for part in self.parts)
        return Factor("", sum(axis_size(part) for part in parts), parts)


AxisLayout = tuple[Factor, ...]
"""Row-major factors of one axis; none for an axis of size 1."""
Layout = tuple[AxisLayout, ...]


def axis_size(axis: Sequence[Factor]) -> int:
    return prod(factor.size for factor in axis)


def axis_names(axis: Sequence[Factor]) -> set[str]:
    """Every dimension that an axis runs along."""
    return {name for factor in axis for name in factor.names() if name}


def layout_names(layout: Sequence[Sequence[Factor]]) -> set[str]:
    """Every dimension that a tensor runs along."""
    return {name for axis in layout for name in axis_names(axis)}


def resized_layout(layout: Sequence[Sequence[Factor]], sizes: Mapping[str, int]) -> Layout:
    return tuple(tuple(factor.resized(sizes) for factor in axis) for axis in layout)


def resized_shape(layout: Sequence[Sequence[Factor]], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape of a tensor when some dimensions have new sizes."""
    return tuple(axis_size(axis) for axis in resized_layout(layout, sizes))


def leading_size(axis: Sequence[Factor], product: int, sizes: Mapping[str, int]) -> int:
    """The new size of the leading factors whose sizes multiply to `product` (the groups of a convolution)."""
    for count in range(len(axis) + 1):
        if axis_size(axis[:count]) == product:
            return axis_size(resized_layout((axis[:count],), sizes)[0])
    return product


def coordinates(axis: Sequence[Factor], name: str) -> Tensor:
    """For every place along an axis its coordinate in one dimension, -1 where the axis does not run along it: (n,)."""
    result = torch.full((1,), -1)
    for factor in axis:
        inner = _factor_coordinates(factor, name)
        outer = result[:, None].expand(-1, len(inner))
        result = torch.where(inner >= 0, inner, outer).reshape(-1)
    return result


def _factor_coordinates(factor: Factor, name: str) -> Tensor:
    if factor.parts:
        return torch.cat([coordinates(part, name) for part in factor.parts])
    return torch.arange(factor.size) if factor.dimension == name else torch.full((factor.size,), -1)


def copies(axis: Sequence[Factor], name: str) -> Tensor:
    """Where along an axis each coordinate of a dimension stands: (size of the dimension, number of copies)."""
    found = coordinates(axis, name)
    places = (found >= 0).nonzero().reshape(-1)
    order = torch.argsort(found[places], stable=True)
    return places[order].reshape(int(found.max()) + 1, -1)
