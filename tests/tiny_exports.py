"""Tiny modules of masks and ids, and their exports held against torch."""

from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from edgefold.artifacts import Artifact

Inputs = dict[str, Tensor]
TOLERANCE = 1e-4


def run(artifact: Artifact, inputs: Inputs) -> list[np.ndarray[Any, Any]]:
    session = onnxruntime.InferenceSession(str(artifact.model_path), providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    found: list[np.ndarray[Any, Any]] = session.run(None, {n: v.numpy() for n, v in inputs.items() if n in wanted})
    return found


class Bag(nn.Module):
    """The masked mean of embeddings, and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(batch, sequence) x 2 -> (batch, 3)."""
        weight = mask.unsqueeze(-1).float()
        mean: Tensor = self.head((self.table(ids) * weight).sum(1) / weight.sum(1).clamp(min=1))
        return mean


class Sum(Bag):
    """Takes inputs that are named like the dynamic dimensions."""

    def forward(self, batch: Tensor, sequence: Tensor) -> Tensor:
        return super().forward(batch, sequence)


class Pair(nn.Module):
    """Two outputs of one input of floats."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(4, 2), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.left(x), self.right(x)


def ids_and_mask(rows: int = 2, length: int = 6, names: tuple[str, str] = ("ids", "mask")) -> Inputs:
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(0, 50, (rows, length), generator=generator)
    return {names[0]: ids, names[1]: (torch.rand(rows, length, generator=generator) > 0.3).long()}


def assert_equal(model: nn.Module, artifact: Artifact, inputs: Inputs) -> None:
    with torch.no_grad():
        expected = model(**inputs).numpy()
    np.testing.assert_allclose(run(artifact, inputs)[0], expected, rtol=0, atol=TOLERANCE)
