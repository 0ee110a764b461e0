"""The rows of all processes, with gradients that find their way back to the process each row came from."""

from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function


def is_distributed() -> bool:
    """Whether this is one of several processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """All processes' rows, in the order of their ranks, and where this process's own begin.

    Backward sums what every process asks of a row. With losses that are each process's share of the joint one, and
    DistributedDataParallel's mean over processes, gradients equal those of one process with the joint batch.

    Args:
        rows: (n, ...); n may differ between processes, the other axes may not.
    """
    if not is_distributed():
        return rows, 0
    counts = _counts(rows)
    gathered: Tensor = _Gather.apply(rows, counts)  # type: ignore[no-untyped-call]
    return gathered, sum(counts[: distributed.get_rank()])


def _counts(rows: Tensor) -> list[int]:
    own = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.zeros_like(own) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, own)
    return [int(count) for count in counts]


class _Gather(Function):
    """Rows are padded to the longest process's number on their way, since collectives want equal shapes."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        padded = rows.new_zeros(max(counts), *rows.shape[1:])
        padded[: len(rows)] = rows
        pieces = [torch.empty_like(padded) for _ in counts]
        distributed.all_gather(pieces, padded)
        return torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        start = sum(ctx.counts[: distributed.get_rank()])
        return total[start : start + ctx.counts[distributed.get_rank()]], None
