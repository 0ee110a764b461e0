"""Which weights a penalty acts on, each time as one matrix (groups, elements), and how they are read and written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from edgefold.dimensions import DimensionGraph
from edgefold.errors import InputError
from edgefold.penalties import GroupLasso, WeightPenalty
from edgefold.resizing.layouts import axis_names, copies


@dataclass(frozen=True)
class Piece:
    """One parameter seen along one of its axes."""

    name: str
    axis: int = 0
    places: Tensor | None = None
    """Where along the axis each coordinate of a dimension stands: (groups, copies); None where each place is one."""

    def read(self, tensor: Tensor) -> Tensor:
        """The groups along the axis: (groups, elements)."""
        rows = tensor.movedim(self.axis, 0)
        rows = rows if self.places is None else rows[self.places.to(tensor.device)]
        return rows.reshape(len(rows), -1)

    def write(self, matrix: Tensor, tensor: Tensor) -> None:
        """Put what `read` gave, changed, back into the tensor; in place."""
        rows = tensor.movedim(self.axis, 0)
        if self.places is None:
            rows.copy_(matrix.reshape(rows.shape))
        else:
            rows[self.places.to(tensor.device)] = matrix.reshape(*self.places.shape, *rows.shape[1:]).to(tensor.dtype)


@dataclass(frozen=True)
class Penalized:
    """One matrix that a penalty acts on: a parameter, or all that runs along a dimension, side by side."""

    pieces: tuple[Piece, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(piece.name for piece in self.pieces)

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """(groups, elements); differentiable."""
        parts = [piece.read(tensors[piece.name]) for piece in self.pieces]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def scatter(self, matrix: Tensor, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of `gather`, in place."""
        widths = [piece.read(tensors[piece.name]).shape[1] for piece in self.pieces]
        for piece, part in zip(self.pieces, torch.split_with_sizes(matrix, widths, 1), strict=True):
            piece.write(part, tensors[piece.name])


def find_penalized(
    penalty: WeightPenalty, weights: Mapping[str, Tensor], graph: DimensionGraph | None = None
) -> list[Penalized]:
    """The matrices that a penalty acts on: of all trained weights those of at least two axes, but for groups along a
    dimension, to which biases and norms belong.

    Args:
        weights: of the smaller architecture, by name.
        graph: of the same; needed for groups along dimensions.

    Raises:
        InputError: the penalty names no weight, or a dimension that is not there or whose groups overlap.
    """
    matched = {name: weight for name, weight in weights.items() if weight.requires_grad and _names(penalty.where, name)}
    groups = penalty.groups if isinstance(penalty, GroupLasso) else "rows"
    if groups not in ("rows", "columns"):
        if graph is None:
            raise InputError(
                f"{penalty} groups weights along dimensions, which takes example inputs; train a student made by "
                "build_student, or group by rows or columns."
            )
        return [_along(dimension.name, graph, matched) for dimension in graph.match(groups)]
    matrices = [name for name, weight in matched.items() if weight.dim() > 1]
    if not matrices:
        names = ", ".join(name for name, weight in weights.items() if weight.dim() > 1)
        raise InputError(f"{penalty} names no trained matrix; there are {names}.")
    return [Penalized((Piece(name, int(groups == "columns")),)) for name in matrices]


def names_of_modules(where: str, names: Sequence[str]) -> list[str]:
    """The modules that a qualified name, its last part, or a glob stands for.

    Raises:
        InputError: there is none.
    """
    matched = [name for name in names if name and (fnmatchcase(name, where) or name.rpartition(".")[2] == where)]
    if not matched:
        raise InputError(f"ActivationL1(where={where!r}) names no module; there are {', '.join(filter(None, names))}.")
    return matched


def _names(where: str, name: str) -> bool:
    module = name.rpartition(".")[0]
    return fnmatchcase(name, where) or fnmatchcase(module, where) or where in name.split(".")


def _along(dimension: str, graph: DimensionGraph, weights: Mapping[str, Tensor]) -> Penalized:
    """All that runs along one dimension."""
    pieces: dict[str, Piece] = {}
    for member in graph[dimension].members:
        if member.parameter not in weights:
            continue
        if member.parameter in pieces:
            raise InputError(
                f"Groups along {dimension} overlap: it runs along two axes of {member.parameter}; leave that out with "
                'where=..., or group by "rows" or "columns".'
            )
        axis = graph.layouts[member.parameter][member.axis]
        assert dimension in axis_names(axis)
        pieces[member.parameter] = Piece(member.parameter, member.axis, copies(axis, dimension))
    if not pieces:
        raise InputError(f"No trained weight that where=... names runs along {dimension}.")
    return Penalized(tuple(pieces.values()))
