"""Contrastive losses: what belongs together lies closer than the rest of the batch, of all processes."""

import torch
from torch import Tensor, nn

from edgefold.distillation.gathering import gather_rows, is_distributed
from edgefold.errors import InputError


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """-mean_i log softmax_j(cos(a_i, b_j) / tau)_i (van den Oord, Li and Vinyals, 2018).

    With two dropout views of one batch this is SimCSE (Gao, Yao and Chen, 2021); with student and teacher embeddings
    of the same examples a contrastive representation distillation whose negatives are those of the batch (after Tian,
    Krishnan and Isola, 2020).

    Args:
        a, b: (n, d); row i of b is the positive of row i of a, the others, of every process, its negatives.
    """
    _check(a, b, temperature)
    candidates, start = gather_rows(b)
    scores = _directions(a) @ _directions(candidates).T / temperature
    own = torch.arange(start, start + len(a), device=a.device)
    return _mean_over_processes(nn.functional.cross_entropy(scores, own, reduction="none"), len(candidates))


def labelled_contrast(rows: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """-mean_i mean_{p in P(i)} log softmax_{j != i}(cos(z_i, z_j) / tau)_p, P(i): the others of i's label.

    Rows whose label no other row has are left out (Khosla et al., 2020, the form with the mean outside).

    Args:
        rows: (n, d).
        labels: (n,), whole numbers.
    """
    _check(rows, rows, temperature)
    if labels.shape != rows.shape[:1]:
        raise InputError(
            f"Labelled positives need one label for each of {len(rows)} examples; got labels of shape "
            f"{tuple(labels.shape)}. Use positives='dropout' where labels are of another kind."
        )
    (candidates, start), (others, _) = gather_rows(rows), gather_rows(labels)
    itself = torch.arange(start, start + len(rows), device=rows.device)[:, None]
    is_itself = itself == torch.arange(len(candidates), device=rows.device)
    scores = (_directions(rows) @ _directions(candidates).T / temperature).masked_fill(is_itself, -torch.inf)
    positive = (labels[:, None] == others) & ~is_itself
    log_share = nn.functional.log_softmax(scores, dim=-1).masked_fill(~positive, 0.0)
    losses = -log_share.sum(-1) / positive.sum(-1).clamp_min(1)
    of_each_label = torch.unique(others, return_counts=True)[1]
    return _mean_over_processes(losses, int(of_each_label[of_each_label > 1].sum()))


def _mean_over_processes(losses: Tensor, total: int) -> Tensor:
    """This process's share of the mean over `total` rows, so that the mean over processes is that mean."""
    processes = torch.distributed.get_world_size() if is_distributed() else 1
    return losses.sum() * processes / max(total, 1)


def _directions(rows: Tensor) -> Tensor:
    return nn.functional.normalize(rows, dim=-1)


def _check(a: Tensor, b: Tensor, temperature: float) -> None:
    if a.dim() != 2 or a.shape != b.shape:
        raise InputError(
            f"Contrast takes two matrices of one shape, (examples, width); got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    if not 0 < temperature < float("inf"):
        raise InputError(f"The temperature of a contrast must be above 0; got {temperature}. 0.05 is a common choice.")
