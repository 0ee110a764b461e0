"""The rows of a table that a batch has used: only they need to be taken back through a projection."""

from collections.abc import Collection
from dataclasses import replace

from torch import Tensor

from edgefold.resizing.layouts import Layout

LARGE = 1024
"""Rows from which looking for the used ones costs less than it saves."""


def used_rows(gradient: Tensor, layout: Layout, projected: Collection[str]) -> Tensor | None:
    """The rows of dL/dW~ that are not zero, where they are few and stay apart under the composition; else None.

    A batch looks up few rows of a vocabulary, and each row of W~ = W P follows from the same row of W.

    Args:
        gradient: (rows, ...). layout: of W. projected: the dimensions that have a projection.
    """
    axis = layout[0]
    if len(gradient) < LARGE or gradient.dim() < 2 or len(axis) != 1 or not axis[0].dimension:
        return None
    if axis[0].dimension in projected:
        return None
    rows = gradient.flatten(1).any(1).nonzero().flatten()
    return rows if 2 * len(rows) < len(gradient) else None


def row_layout(layout: Layout, count: int) -> Layout:
    """The layout of `count` rows of such a table."""
    first = replace(layout[0][0], size=count)
    return ((first,), *layout[1:])
