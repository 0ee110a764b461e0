"""Backward elimination: which coordinates to keep when what reads them may take over the work of the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

ROUNDS = 24
"""Within a round the cheapest go together; MiniLM-L6's 1536 neurons take two seconds, one by one half a minute."""
DAMPING = 1e-2
"""As the ridge of the sequential start: what it cannot refit, it should not be promised here."""


@dataclass
class Reader:
    """A product y = W x of centred inputs x, W kept at its best on the coordinates that are left.

    places: (d, k), where in x each of the d coordinates of the dimension stands.
    """

    weight: Tensor
    inverse: Tensor
    """(E[x x^T] + damping)^-1 over what is left: (n, n)."""
    places: Tensor
    energy: float

    def losses(self) -> Tensor:
        """What each coordinate's removal would cost, as a share of E|y|^2: tr(W_g ((C^-1)_gg)^-1 W_g^T), (d,)."""
        blocks = self.inverse[self.places[:, :, None], self.places[:, None, :]]
        columns = self.weight[:, self.places].permute(1, 2, 0)
        costs: Tensor = (columns * torch.linalg.solve(blocks, columns)).sum((1, 2))
        return costs / self.energy

    def remove(self, coordinates: Tensor) -> None:
        """W - W_g ((C^-1)_gg)^-1 (C^-1)_g: the others take over what they can; then they alone stay."""
        gone = self.places[coordinates].flatten()
        stays = torch.ones(len(self.inverse), dtype=torch.bool).index_fill(0, gone, False)
        taken = torch.linalg.solve(self.inverse[gone][:, gone], self.inverse[gone][:, stays])
        self.weight = self.weight[:, stays] - self.weight[:, gone] @ taken
        self.inverse = self.inverse[stays][:, stays] - self.inverse[stays][:, gone] @ taken
        keeps = torch.ones(len(self.places), dtype=torch.bool).index_fill(0, coordinates, False)
        self.places = (stays.cumsum(0) - 1)[self.places[keeps]]


def open_reader(weight: Tensor, covariance: Tensor, places: Tensor, damping: float = DAMPING) -> Reader:
    """weight: (..., n); covariance: (n, n), in float64; places: (d, k), see `Reader`."""
    rows = weight.detach().to("cpu", torch.float64).reshape(-1, weight.shape[-1])
    floor = damping * float(covariance.trace()) / len(covariance)
    identity = torch.eye(len(covariance), dtype=torch.float64)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(covariance + max(floor, 1e-12) * identity))
    return Reader(rows, inverse, places, max(float((rows @ covariance * rows).sum()), 1e-30))


def eliminate(readers: Sequence[Reader], size: int, rounds: int = ROUNDS) -> Tensor:
    """The `size` coordinates that stay, ascending, when the least missed go round by round; readers change in place.

    With one coordinate a round it is the structured optimal brain surgeon (Hassibi and Stork, 1993; ZipLM, Kurtic et
    al., 2023).
    """
    left = torch.arange(len(readers[0].places))
    share = max(1, ceil((len(left) - size) / rounds))
    while len(left) > size:
        losses = torch.stack([reader.losses() for reader in readers]).sum(0)
        going = losses.topk(min(share, len(left) - size), largest=False).indices
        for reader in readers:
            reader.remove(going)
        left = left[torch.ones(len(left), dtype=torch.bool).index_fill(0, going, False)]
    return left
