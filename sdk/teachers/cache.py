"""What the teacher said of each training example, kept in memory so that its forward pass is paid for once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from edgefold.teachers.rows import Row, TeacherOutputs, compact, put_together, take_apart

__all__ = ["EXAMPLE_IDS", "NumberedCollator", "NumberedDataset", "TeacherCache", "TeacherOutputs"]

EXAMPLE_IDS = "edgefold_example_ids"


@dataclass
class TeacherCache:
    """Per-example teacher outputs up to a limit of memory; hidden states are held in half precision without padding.

    Values pass through the cache's precision also when they are new, so a run that refills the cache after an
    interruption sees the same numbers.
    """

    limit_bytes: int
    _rows: dict[int, dict[str, Row]] = field(default_factory=dict)
    _bytes: int = 0

    def fetch(self, batch: Mapping[str, Any], ids: Tensor, compute: Callable[[], TeacherOutputs]) -> TeacherOutputs:
        """The teacher's outputs for a batch, from memory if every example is there, else computed and kept."""
        keys = [int(key) for key in ids]
        if all(key in self._rows for key in keys):
            return put_together([self._rows[key] for key in keys], batch)
        fresh = compact(compute())
        if self._bytes < self.limit_bytes:
            for key, rows in zip(keys, take_apart(fresh, batch), strict=True):
                self._rows[key] = rows
                self._bytes += sum(row.value.nbytes for row in rows.values())
        return TeacherOutputs.of(fresh.named())


class NumberedDataset(Dataset[dict[str, Any]]):
    """A dataset whose examples carry their number."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**self._dataset[index], EXAMPLE_IDS: index}


@dataclass(frozen=True)
class NumberedCollator:
    """A collator that keeps the examples' numbers beside what another collator makes."""

    collate: Callable[[list[dict[str, Any]]], Any]

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [feature.get(EXAMPLE_IDS) for feature in features]
        bare = [{name: value for name, value in feature.items() if name != EXAMPLE_IDS} for feature in features]
        batch = dict(self.collate(bare))
        return batch if None in ids else {**batch, EXAMPLE_IDS: torch.tensor(ids)}
