"""When two thin products are faster than the dense one, and the dense layer in place of those that are not."""

from collections.abc import Iterable

import torch
from torch import nn

WINNING_SHARE = 0.75
"""Of the rank out * in / (out + in) at which both cost the same multiply-adds. Measured on a CPU with AVX-512, 128
tokens, one thread, torch 2.13 and ONNX Runtime 1.32, (out, in) from (128, 128) to (768, 768) and (384, 1536): at this
share the pair takes .75 to .95 of the dense time; at .9 it takes .91 to 1.01 for the shapes from 384 on, .95 to 1.20
for the small ones; at 1 it always loses. tests/benchmarks/bench_thin_products.py measures it again."""


def is_faster(out_features: int, in_features: int, rank: int) -> bool:
    """Whether x -> B (A x) with B (out, rank) and A (rank, in) takes less time than one product with (out, in)."""
    return rank * (out_features + in_features) <= WINNING_SHARE * out_features * in_features


def merge_slow_pairs(model: nn.Module, paths: Iterable[str]) -> list[str]:
    """Put W = B A, computed in float64, in place of each pair that is slower than dense; in place.

    Pairs that begin with an embedding stay: they save memory, not time.

    Returns:
        The paths of the layers that became dense.
    """
    merged = []
    for path in paths:
        pair = model.get_submodule(path)
        if not isinstance(pair, nn.Sequential) or len(pair) != 2:
            continue
        first, second = pair
        if not isinstance(first, nn.Linear) or not isinstance(second, nn.Linear):
            continue
        if not is_faster(second.out_features, first.in_features, first.out_features):
            model.set_submodule(path, _merged(first, second))
            merged.append(path)
    return merged


def _merged(first: nn.Linear, second: nn.Linear) -> nn.Linear:
    with torch.device("meta"):
        dense = nn.Linear(first.in_features, second.out_features, second.bias is not None)
    product = second.weight.detach().to("cpu", torch.float64) @ first.weight.detach().to("cpu", torch.float64)
    dense.weight = nn.Parameter(product.to(second.weight))
    dense.bias = second.bias
    return dense
