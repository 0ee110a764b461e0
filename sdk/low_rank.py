"""Factor pairs in place of matrices: W = B A as two plain layers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.plans import LowRank


@dataclass(frozen=True)
class FactorPair:
    """A module that is, or is to become, two layers of the given rank between them."""

    module: str
    rank: int
    """Where an energy is given, the largest rank possible, until `keep_energy` has seen the singular values."""
    energy: float | None = None
    multiple_of: int = 8


def find_factor_pairs(model: nn.Module, steps: Sequence[LowRank]) -> list[FactorPair]:
    """The linear and embedding layers that the steps name; one that would not become smaller is left dense.

    Raises:
        InputError: a step matches nothing, two steps match one layer, a rank does not fit, or a matched weight is tied.
    """
    pairs: dict[str, FactorPair] = {}
    for step in steps:
        matched = [name for name, module in model.named_modules() if _is_matrix(module) and is_named(name, step.where)]
        if not matched:
            names = ", ".join(name for name, module in model.named_modules() if _is_matrix(module))
            raise InputError(f"LowRank(where={step.where!r}) matches no linear or embedding layer; there are {names}.")
        for name in matched:
            if name in pairs:
                raise InputError(f"Two LowRank steps match {name}; name it in one of them only.")
            rank, shape = _check_rank(model, name, step)
            if step.energy is not None or _is_smaller(rank, shape):
                pairs[name] = FactorPair(name, rank, step.energy, step.multiple_of)
    return list(pairs.values())


def keep_energy(pair: FactorPair, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor] | None:
    """Cut whitened factors to the smallest rank that keeps the pair's energy; None where dense is no larger.

    With left = U Sigma^(1/2), U orthonormal, the singular values sigma_i are the squared norms of left's columns.

    Args:
        left: (out, r) and right: (r, in), r the pair's rank; returned as they are where no energy is asked for.
    """
    if pair.energy is None:
        return left, right
    energies = left.square().sum(0).square().cumsum(0)
    needed = int((energies < pair.energy * energies[-1]).sum()) + 1
    rank = min(math.ceil(needed / pair.multiple_of) * pair.multiple_of, left.shape[1])
    return (left[:, :rank], right[:rank]) if _is_smaller(rank, (left.shape[0], right.shape[1])) else None


def _is_smaller(rank: int, shape: tuple[int, int]) -> bool:
    return rank * (shape[0] + shape[1]) < shape[0] * shape[1]


def factorize(model: nn.Module, pair: FactorPair, left: Tensor | None = None, right: Tensor | None = None) -> None:
    """Replace one layer by its factor pair, in place.

    Args:
        left: (out, rank) and right: (rank, in) such that W = left @ right; for an embedding W is its table
            transposed, (d, rows).
            Left out, the layers keep an arbitrary start (their weights are about to be loaded).
    """
    layer = model.get_submodule(pair.module)
    first: nn.Module
    if isinstance(layer, nn.Embedding):
        first = nn.Embedding(layer.num_embeddings, pair.rank, padding_idx=layer.padding_idx)
        second = nn.Linear(pair.rank, layer.embedding_dim, bias=False)
    else:
        assert isinstance(layer, nn.Linear)
        first = nn.Linear(layer.in_features, pair.rank, bias=False)
        second = nn.Linear(pair.rank, layer.out_features, bias=layer.bias is not None)
        if layer.bias is not None:
            second.bias.data = layer.bias.data.clone()
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if left is not None and right is not None:
        first.weight.data = right.T if isinstance(layer, nn.Embedding) else right
        second.weight.data = left
    replacement = nn.Sequential(first, second).to(weight.device, weight.dtype)
    for parameter in replacement.parameters():
        parameter.data = parameter.data.contiguous()
    parent, _, name = pair.module.rpartition(".")
    setattr(model.get_submodule(parent), name, replacement)


def _is_matrix(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.Embedding)


def is_named(name: str, where: str) -> bool:
    """Whether a qualified name is meant: by a glob, or by one of its parts between dots."""
    return fnmatchcase(name, where) or where in name.split(".")


def _check_rank(model: nn.Module, name: str, step: LowRank) -> tuple[int, tuple[int, int]]:
    """The rank asked for, the largest possible where it depends on the energy; and the matrix's shape."""
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    limit = min(weight.shape)
    rank = step.rank or limit
    if rank > limit:
        raise InputError(
            f"LowRank(rank={rank}) does not fit {name} of shape {tuple(weight.shape)}; choose 1 <= rank <= {limit}."
        )
    owners = [full for full, tensor in model.named_parameters(remove_duplicate=False) if tensor is weight]
    if len(owners) > 1:
        raise InputError(
            f"{name} cannot be factorized: its weight is shared by {', '.join(owners)}; leave it out of LowRank."
        )
    return rank, (weight.shape[0], weight.shape[1])
