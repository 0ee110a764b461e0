"""Factor pairs in place of matrices: W = B A as two plain layers."""

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


def find_factor_pairs(model: nn.Module, steps: Sequence[LowRank]) -> list[FactorPair]:
    """The linear and embedding layers that the steps name; one that would not become smaller is left dense.

    Raises:
        InputError: a step matches nothing, two steps match one layer, a rank does not fit, or a matched weight is tied.
    """
    pairs: dict[str, FactorPair] = {}
    for step in steps:
        matched = [name for name, module in model.named_modules() if _is_matrix(module) and _matches(name, step.where)]
        if not matched:
            names = ", ".join(name for name, module in model.named_modules() if _is_matrix(module))
            raise InputError(f"LowRank(where={step.where!r}) matches no linear or embedding layer; there are {names}.")
        for name in matched:
            if name in pairs:
                raise InputError(f"Two LowRank steps match {name}; name it in one of them only.")
            _check_rank(model, name, step)
            out_features, in_features = model.get_submodule(name).weight.shape  # type: ignore[misc]
            if step.rank * (out_features + in_features) < out_features * in_features:
                pairs[name] = FactorPair(name, step.rank)
    return list(pairs.values())


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


def _matches(name: str, where: str) -> bool:
    return fnmatchcase(name, where) or where in name.split(".")


def _check_rank(model: nn.Module, name: str, step: LowRank) -> None:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    limit = min(weight.shape)
    if step.rank > limit:
        raise InputError(
            f"LowRank(rank={step.rank}) does not fit {name} of shape {tuple(weight.shape)}; choose 1 <= rank <= "
            f"{limit}."
        )
    owners = [full for full, tensor in model.named_parameters(remove_duplicate=False) if tensor is weight]
    if len(owners) > 1:
        raise InputError(
            f"{name} cannot be factorized: its weight is shared by {', '.join(owners)}; leave it out of LowRank."
        )
