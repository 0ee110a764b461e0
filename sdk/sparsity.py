"""What penalties made of a student: zeros, ranks and what the fold cut out, in figures."""

from typing import Any

from torch import nn

from edgefold.lost_ranks import exact_rank


def weight_table(plain: nn.Module, with_ranks: bool) -> list[dict[str, Any]]:
    """For every matrix of a folded student: its name, shape and share of zeros; its exact rank where asked for.

    A kernel (out, in, ...) counts as the matrix (out, in * ...).
    """
    table = []
    for name, weight in plain.named_parameters():
        if weight.dim() > 1:
            row = {"parameter": name, "shape": list(weight.shape), "zero_share": float((weight == 0).double().mean())}
            table.append({**row, "rank": exact_rank(weight.flatten(1))} if with_ranks else row)
    return table


def sparsity_figures(before: nn.Module, plain: nn.Module) -> dict[str, float]:
    """The share of zeros in the matrices of a folded student, its parameters, and how many the fold cut out.

    Args:
        before: the same student folded with its dead coordinates left in.
    """
    matrices = [parameter for parameter in plain.parameters() if parameter.dim() > 1]
    counts = [sum(parameter.numel() for parameter in module.parameters()) for module in (before, plain)]
    return {
        "zero_share": sum(int((m == 0).sum()) for m in matrices) / max(1, sum(m.numel() for m in matrices)),
        "parameters": float(counts[1]),
        "parameters_removed": float(counts[0] - counts[1]),
    }
