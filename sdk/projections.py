"""The maps that shrink a dimension, their start from calibrated activations, and how they act on a parameter."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from edgefold.calibration import Moments
from edgefold.resizing.layouts import Factor, axis_names, axis_size, copies


@dataclass(frozen=True)
class Projection:
    """x -> P^T x with P: (d, p); or x_h -> P_h^T x_h with P: (heads, d, p), one for each head."""

    matrix: Tensor

    @property
    def size(self) -> int:
        return int(self.matrix.shape[-1])

    def apply(self, tensor: Tensor, axis: int, heads: int) -> Tensor:
        """Contract `axis` (of size d) with P; its new size is p. `heads` is the axis of the heads, where P has them."""
        matrix = self.matrix.to(tensor.dtype)
        if matrix.dim() == 2:
            moved: Tensor = torch.tensordot(tensor, matrix, dims=([axis], [0]))
            return moved.movedim(-1, axis)
        product: Tensor = torch.einsum("h...d,hdp->h...p", tensor.movedim((heads, axis), (0, -1)), matrix)
        return product.movedim((0, -1), (heads, axis))


@dataclass(frozen=True)
class Selection:
    """x -> x[indices], indices: (p,), ascending."""

    indices: Tensor

    @property
    def size(self) -> int:
        return len(self.indices)

    def apply(self, tensor: Tensor, axis: int, heads: int) -> Tensor:
        """Keep these places of `axis`."""
        return tensor.index_select(axis, self.indices.to(tensor.device))


Map = Projection | Selection


def compose(tensor: Tensor, layout: Sequence[Sequence[Factor]], maps: Mapping[str, Map]) -> Tensor:
    """W~ = P_b^T W P_a: every axis of a parameter, factor of an axis, or part of a sum, taken through its map."""
    result = tensor
    for position, axis in enumerate(layout):
        if not maps.keys().isdisjoint(axis_names(axis)):
            result = _map_axis(result, position, axis, maps)
    return result


def _map_axis(tensor: Tensor, position: int, axis: Sequence[Factor], maps: Mapping[str, Map]) -> Tensor:
    """One axis, which is a row-major product of factors."""
    if not axis:  # of size 1
        return tensor
    shape = (*tensor.shape[:position], *(factor.size for factor in axis), *tensor.shape[position + 1 :])
    grid = tensor.reshape(shape)
    for place, factor in enumerate(axis, position):
        grid = _map_factor(grid, place, factor, maps, position)
    return grid.flatten(position, position + len(axis) - 1)


def _map_factor(tensor: Tensor, position: int, factor: Factor, maps: Mapping[str, Map], leading: int) -> Tensor:
    """One factor; `leading` is the place of the first factor of its product, the heads where there are any."""
    if not factor.parts:
        return maps[factor.dimension].apply(tensor, position, leading) if factor.dimension in maps else tensor
    pieces = torch.split_with_sizes(tensor, [axis_size(part) for part in factor.parts], dim=position)
    mapped = [_map_axis(piece, position, part, maps) for piece, part in zip(pieces, factor.parts, strict=True)]
    return torch.cat(mapped, dim=position)


def principal_directions(moments: Iterable[Tensor], size: int, weights: Sequence[float] | None = None) -> Tensor:
    """P: (d, size), orthonormal: the leading eigenvectors of sum_i weights_i C_i / tr(C_i) over second moments C_i.

    Normalising keeps the loudest layer from deciding alone. At full size P is the identity. The basis is turned (one
    Householder reflection) so that the direction (1, ..., 1) of the small space, which a layer norm discards, carries
    the least variance of all.
    """
    scaled = [moment / moment.trace().clamp_min(1e-30) for moment in moments]
    if size == len(scaled[0]):
        return torch.eye(size, dtype=torch.float64)
    total = torch.stack([weight * each for weight, each in zip(weights or [1.0] * len(scaled), scaled, strict=True)])
    directions: Tensor = torch.linalg.eigh(total.sum(0)).eigenvectors.flip(1)[:, :size]
    return directions @ _least_to_ones(size)


def _least_to_ones(size: int) -> Tensor:
    """The reflection H (size, size) that swaps the last basis vector and (1, ..., 1) / sqrt(size)."""
    difference = torch.full((size,), -(size**-0.5), dtype=torch.float64)
    difference[-1] += 1
    if difference.norm() < 1e-12:
        return torch.eye(size, dtype=torch.float64)
    difference /= difference.norm()
    return torch.eye(size, dtype=torch.float64) - 2 * torch.outer(difference, difference)


def reader_importance(moments: Moments, weight: Tensor, axis: Sequence[Factor], name: str) -> Tensor:
    """What each coordinate of a dimension contributes to the product that reads it: tr(W_i C_ii W_i^T), shape (d,).

    Args:
        moments: of the axis that is read, of size n.
        weight: the reading parameter with the contracted axis last: (..., n).
        axis: the layout of that axis.
        name: the dimension.
    """
    places = copies(axis, name)
    rows = weight.detach().to("cpu", torch.float64).reshape(-1, weight.shape[-1])
    parts = rows[:, places].transpose(0, 1)  # (d, out, c)
    contribution: Tensor = (parts.transpose(1, 2) @ parts) * moments.blocks_at(places)
    return contribution.sum((1, 2))


def axis_energy(tensor: Tensor, position: int, axis: Sequence[Factor], name: str) -> Tensor:
    """The squared norm of each slice of a parameter along a dimension of one of its axes: (d,)."""
    slices = tensor.detach().to("cpu", torch.float64).movedim(position, 0)
    squares = slices.reshape(len(slices), -1).square().sum(1)
    return squares[copies(axis, name)].sum(1)


def axis_gram(tensor: Tensor, position: int, axis: Sequence[Factor], name: str) -> Tensor:
    """The products of a parameter's slices along a dimension of one of its axes: (d, d)."""
    slices = tensor.detach().to("cpu", torch.float64).movedim(position, 0)
    rows = slices.reshape(len(slices), -1)[copies(axis, name)].flatten(1)
    return rows @ rows.mT


def dimension_moment(moment: Tensor, axis: Sequence[Factor], name: str) -> Tensor:
    """The part of a second moment (n, n) that belongs to one dimension, summed over its copies: (d, d)."""
    places = copies(axis, name)
    return moment[places[:, None, :], places[None, :, :]].sum(-1)


def most_important(importance: Tensor, size: int) -> Selection:
    """Keep the `size` largest, in their old order."""
    return Selection(importance.topk(size).indices.sort().values)


def whitened_factors(weight: Tensor, second_moment: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """W ~ B A of the given rank, minimising E|W x - B A x|^2 over inputs x.

    With S S^T = E[x x^T] and the SVD of W S, B = U_r Sigma_r^(1/2) and A = Sigma_r^(1/2) V_r^T S^-1 (SVD-LLM, Wang
    et al.,
    2024); the loss equals the cut singular values. S comes from the eigendecomposition with its spectrum kept above
    1e-6 of its mean, so a singular moment does no harm.

    Args:
        weight: (out, in), float64.
        second_moment: (in, in), or (in,) when it is diagonal.

    Returns:
        B: (out, rank) and A: (rank, in).
    """
    root, inverse = _square_root(second_moment)
    whitened = weight * root if root.dim() == 1 else weight @ root
    u, sigma, vt = torch.linalg.svd(whitened, full_matrices=False)
    scale = sigma[:rank].sqrt()
    right = scale[:, None] * vt[:rank]
    return u[:, :rank] * scale, right * inverse if inverse.dim() == 1 else right @ inverse


def _square_root(second_moment: Tensor) -> tuple[Tensor, Tensor]:
    """S and S^-1 with S S = the moment, guarded from below; of a moment of zeros the identity."""
    if second_moment.dim() == 1:
        root = _guarded(second_moment).sqrt()
        return root, 1 / root
    values, vectors = torch.linalg.eigh(second_moment)
    root = _guarded(values).sqrt()
    return (vectors * root) @ vectors.T, (vectors / root) @ vectors.T


def _guarded(spectrum: Tensor) -> Tensor:
    mean = float(spectrum.mean())
    return spectrum.clamp_min(1e-6 * mean) if mean > 0 else torch.ones_like(spectrum)
