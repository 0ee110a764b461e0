"""Rows in batches, those of like length together, and a model run over them."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from edgefold.tasks.task import Collate, Row
from edgefold.tracing.placement import device_of, placed

EVALUATION_BATCH = 64


class EncodedRows(Dataset[Row]):
    """Rows in memory; where they have `input_ids`, their lengths are known."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self.lengths = [len(row["input_ids"]) for row in rows] if rows and "input_ids" in rows[0] else None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return dict(self._rows[index])


def in_batches(
    dataset: Any, collate: Collate, size: int, limit: int | None = None
) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """The numbers of the rows, and what `collate` makes of them; the first `limit` rows, sorted by length if known."""
    order = list(range(min(len(dataset), len(dataset) if limit is None else limit)))
    lengths = getattr(dataset, "lengths", None)
    if lengths is not None:
        order.sort(key=lengths.__getitem__)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        yield rows, dict(collate([dataset[row] for row in rows]))


def bare_batches(
    dataset: Any, collate: Collate, size: int, limit: int | None = None, label_names: Collection[str] = ("labels",)
) -> list[dict[str, Tensor]]:
    """Batches of inputs alone."""
    return [without(batch, label_names) for _, batch in in_batches(dataset, collate, size, limit)]


def without(batch: Mapping[str, Tensor], names: Collection[str]) -> dict[str, Tensor]:
    """A batch without some of its tensors."""
    return {name: value for name, value in batch.items() if name not in names}


def run_over(
    model: nn.Module,
    dataset: Any,
    collate: Collate,
    label_names: Collection[str] = ("labels",),
    size: int = EVALUATION_BATCH,
) -> Iterator[tuple[list[int], dict[str, Tensor], Any]]:
    """For each batch the numbers of its rows, its tensors on the model's device, and the model's outputs.

    The model is in evaluation mode meanwhile, and gets no labels.
    """
    device = device_of(model)
    was_training = model.training
    model.eval()
    try:
        for rows, batch in in_batches(dataset, collate, size):
            moved = placed(batch, device)
            with torch.no_grad():
                outputs = model(**without(moved, label_names))
            yield rows, moved, outputs
    finally:
        model.train(was_training)
