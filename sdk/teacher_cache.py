"""What the teacher said of each training example, kept in memory so that its forward pass is paid for once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

EXAMPLE_IDS = "edgefold_example_ids"
LOGITS = ""
"""The name of the logits among the hidden states, which are named by the paths of modules."""


@dataclass
class TeacherOutputs:
    """Logits and hidden states of one batch."""

    logits: Tensor
    hidden: dict[str, Tensor]


@dataclass
class TeacherCache:
    """Per-example teacher outputs up to a limit of memory; hidden states are held in half precision without padding.

    Values pass through the cache's precision also when they are new, so a run that refills the cache after an
    interruption sees the same numbers.
    """

    limit_bytes: int
    _kept: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    _per_token: set[str] = field(default_factory=set)
    """What has a vector for each token: it is kept without padding, and padded as the batch at hand is."""
    _bytes: int = 0

    def fetch(self, batch: Mapping[str, Any], ids: Tensor, compute: Callable[[], TeacherOutputs]) -> TeacherOutputs:
        """The teacher's outputs for a batch, from memory if every example is there, else computed and kept."""
        keys = [int(key) for key in ids]
        if all(key in self._kept for key in keys):
            return self._gather(keys, batch)
        fresh = compute()
        hidden = {path: _halved(value) for path, value in fresh.hidden.items()}
        if self._bytes < self.limit_bytes:
            self._store(keys, batch, {LOGITS: fresh.logits, **hidden})
        return TeacherOutputs(fresh.logits, {path: value.to(fresh.logits.dtype) for path, value in hidden.items()})

    def _store(self, keys: Sequence[int], batch: Mapping[str, Any], values: Mapping[str, Tensor]) -> None:
        mask = _token_mask(batch)
        if mask is not None:
            shape = mask.shape
            self._per_token |= {name for name, value in values.items() if value.dim() > 2 and value.shape[:2] == shape}
        lengths = _lengths(mask, len(keys))
        for row, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            self._kept[key] = {
                name: (value[row, :length] if name in self._per_token else value[row]).detach().cpu().clone()
                for name, value in values.items()
            }
            self._bytes += sum(value.nbytes for value in self._kept[key].values())

    def _gather(self, keys: Sequence[int], batch: Mapping[str, Any]) -> TeacherOutputs:
        device = next(value.device for value in batch.values() if isinstance(value, Tensor))
        mask = _token_mask(batch)
        values = {}
        for name in self._kept[keys[0]]:
            rows = [self._kept[key][name] for key in keys]
            if name in self._per_token and mask is not None:
                rows = [_padded(row, mask.shape[1]) for row in rows]
            values[name] = torch.stack(rows).to(device)
        logits = values.pop(LOGITS)
        return TeacherOutputs(logits, {path: value.to(logits.dtype) for path, value in values.items()})


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


def _halved(value: Tensor) -> Tensor:
    """Half precision, saturated rather than overflowed."""
    limit = torch.finfo(torch.float16).max
    return value.clamp(-limit, limit).to(torch.float16)


def _token_mask(batch: Mapping[str, Any]) -> Tensor | None:
    mask = batch.get("attention_mask")
    return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


def _lengths(mask: Tensor | None, size: int) -> list[int | None]:
    """Tokens up to each row's last unmasked one; None where the batch has no mask."""
    if mask is None:
        return [None] * size
    return [int(row.nonzero()[-1]) + 1 if bool(row.any()) else 0 for row in mask]


def _padded(row: Tensor, length: int) -> Tensor:
    """(tokens, ...) -> (length, ...), with zeros at the end."""
    return torch.nn.functional.pad(row, (0, 0) * (row.dim() - 1) + (0, length - len(row)))
