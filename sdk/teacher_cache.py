"""What the teacher said of each training example, kept in memory so that its forward pass is paid for once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

EXAMPLE_IDS = "edgefold_example_ids"


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
    _logits: dict[int, Tensor] = field(default_factory=dict)
    _hidden: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    _bytes: int = 0

    def fetch(self, batch: Mapping[str, Any], ids: Tensor, compute: Callable[[], TeacherOutputs]) -> TeacherOutputs:
        """The teacher's outputs for a batch, from memory if every example is there, else computed and kept."""
        keys = [int(key) for key in ids]
        lengths = self._lengths(batch, len(keys))
        if all(key in self._logits for key in keys):
            return self._gather(keys, batch)
        fresh = compute()
        hidden = {path: _halved(value) for path, value in fresh.hidden.items()}
        if self._bytes < self.limit_bytes:
            self._store(keys, lengths, fresh.logits, hidden)
        return TeacherOutputs(fresh.logits, {path: value.to(fresh.logits.dtype) for path, value in hidden.items()})

    @staticmethod
    def _lengths(batch: Mapping[str, Any], size: int) -> list[int | None]:
        """Tokens up to each row's last unmasked one; None where the batch has no mask."""
        mask = batch.get("attention_mask")
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            return [None] * size
        return [int(row.nonzero()[-1]) + 1 if bool(row.any()) else 0 for row in mask]

    def _store(
        self, keys: Sequence[int], lengths: Sequence[int | None], logits: Tensor, hidden: Mapping[str, Tensor]
    ) -> None:
        for row, (key, length) in enumerate(zip(keys, lengths, strict=True)):
            self._logits[key] = logits[row].detach().cpu().clone()
            self._hidden[key] = {path: value[row, :length].detach().cpu().clone() for path, value in hidden.items()}
            self._bytes += sum(value.nbytes for value in self._hidden[key].values()) + self._logits[key].nbytes

    def _gather(self, keys: Sequence[int], batch: Mapping[str, Any]) -> TeacherOutputs:
        device = next(value.device for value in batch.values() if isinstance(value, Tensor))
        logits = torch.stack([self._logits[key] for key in keys]).to(device)
        hidden = {
            path: torch.nn.utils.rnn.pad_sequence([self._hidden[key][path] for key in keys], batch_first=True)
            for path in self._hidden[keys[0]]
        }
        mask = batch.get("attention_mask")
        if isinstance(mask, Tensor):
            hidden = {path: _padded(value, mask.shape[1]) for path, value in hidden.items()}
        return TeacherOutputs(logits, {path: value.to(device, logits.dtype) for path, value in hidden.items()})


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


def _padded(value: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(value, (0, 0) * (value.dim() - 2) + (0, length - value.shape[1]))
