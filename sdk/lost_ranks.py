"""Matrices whose rank dropped become factor pairs, where two thin products are faster: the same function."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.dead_coordinates import same_function
from edgefold.hardware_sizes import round_up
from edgefold.low_rank import FactorPair, factorize
from edgefold.structure.bottlenecks import CHILD
from edgefold.thin_products import WINNING_SHARE, is_faster

logger = logging.getLogger(__name__)
ROUNDING = 8.0
"""Singular values below this many units in the last place of the whole matrix count as zero: a low-rank product that
is rounded to its dtype has an error of at most half a unit of each entry, so of half a unit of the Frobenius norm."""


def exact_rank(weight: Tensor) -> int:
    """The rank of a matrix but for rounding: the number of singular values above 8 eps |W|_F."""
    sigma = torch.linalg.svdvals(weight.detach().to("cpu", torch.float64))
    return int((sigma > _rounding(weight)).sum())


def _rounding(weight: Tensor) -> float:
    """What rounding to the matrix's dtype may add to a singular value."""
    return ROUNDING * torch.finfo(weight.dtype).eps * float(weight.detach().double().norm())


def factorize_lost_ranks(module: nn.Module, inputs: Mapping[str, Tensor], multiple_of: int = 8) -> nn.Module:
    """The module with a factor pair in place of each linear layer of so low a rank that the pair is faster.

    W = U Sigma V^T becomes B = U Sigma^(1/2) and A = Sigma^(1/2) V^T, computed in float64.

    Args:
        module: plain and on the CPU; not modified.
        inputs: example keyword tensors of forward: a module that reads the weight of a layer by itself keeps it.
        multiple_of: what ranks are rounded up to.
    """
    pairs = _pairs(module, multiple_of)
    if not pairs:
        return module
    smaller = copied(module)
    for pair in pairs:
        weight = module.get_submodule(pair.module).weight
        assert isinstance(weight, Tensor)
        factorize(smaller, pair, *_factors(weight, pair.rank))
    try:
        is_same = same_function(smaller, module, inputs)
    except AttributeError:  # such as torch's own attention, which takes the weights out of its layers
        is_same = False
    if not is_same:
        logger.info("Matrices of low rank stay dense: the module needs them so.")
        return module
    for pair in pairs:
        logger.info("%s became a pair of rank %d.", pair.module, pair.rank)
    return smaller


def _pairs(module: nn.Module, multiple_of: int) -> list[FactorPair]:
    """The linear layers that would be faster as a pair; weights that are shared or computed, bottlenecks and layers in
    pairs stay."""
    names: dict[int, int] = {}
    for _, parameter in module.named_parameters(remove_duplicate=False):
        names[id(parameter)] = names.get(id(parameter), 0) + 1
    found = []
    for path, child in module.named_modules():
        if type(child) is not nn.Linear or names.get(id(child.weight)) != 1 or CHILD in path.split("."):
            continue
        if not _may_be_low(child.weight):
            continue
        rank = min(round_up(max(exact_rank(child.weight), 1), multiple_of), *child.weight.shape)
        if is_faster(child.out_features, child.in_features, rank):
            found.append(FactorPair(path, rank))
    return found


def _may_be_low(weight: Tensor) -> bool:
    """Whether a pair of the matrix's rank could be faster: cheaply, for most are of full rank.

    Singular values of a block are no larger than those of the whole, so a block of r + 1 rows and columns that has none
    near zero proves the rank to be above r.
    """
    size = int(WINNING_SHARE * weight.numel() / sum(weight.shape)) + 1
    block = weight.detach()[:size, :size].to("cpu", torch.float64)
    smallest = float(torch.linalg.svdvals(block)[-1])
    return smallest <= _rounding(weight)


def _factors(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """B (out, rank) and A (rank, in)."""
    u, sigma, vt = torch.linalg.svd(weight.detach().to("cpu", torch.float64), full_matrices=False)
    scale = sigma[:rank].sqrt()
    return (u[:, :rank] * scale).to(weight), (scale[:, None] * vt[:rank]).to(weight)
