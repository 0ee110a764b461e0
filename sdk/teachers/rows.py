"""What a teacher says of a batch, taken apart into its examples without padding, and put together in any batch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from edgefold.errors import InputError

LOGITS, HIDDEN, ATTENTION = "logits", "hidden/", "attention/"


@dataclass
class TeacherOutputs:
    """Logits, hidden states and attention maps of one batch."""

    logits: Tensor
    hidden: dict[str, Tensor]
    """By place."""
    attentions: dict[int, Tensor] = field(default_factory=dict)
    """By layer: (batch, heads, queries, keys)."""

    def named(self) -> dict[str, Tensor]:
        """Every value under a name that tells what it is."""
        hidden = {HIDDEN + place: value for place, value in self.hidden.items()}
        return {LOGITS: self.logits, **hidden, **{f"{ATTENTION}{i}": value for i, value in self.attentions.items()}}

    @staticmethod
    def of(values: Mapping[str, Tensor]) -> "TeacherOutputs":
        """The inverse of `named`; everything has the precision of the logits."""
        logits = values[LOGITS]
        hidden, attentions = (
            {name[len(start) :]: value.to(logits.dtype) for name, value in values.items() if name.startswith(start)}
            for start in (HIDDEN, ATTENTION)
        )
        return TeacherOutputs(logits, hidden, {int(layer): value for layer, value in attentions.items()})


@dataclass(frozen=True)
class Row:
    """One value of one example."""

    value: Tensor
    token_axes: tuple[int, ...]
    """Those that count tokens; without padding."""


def compact(outputs: TeacherOutputs) -> TeacherOutputs:
    """Hidden states and attention maps in half precision, saturated rather than overflowed; logits stay as they are."""
    hidden, attentions = (
        {key: _halved(value) for key, value in values.items()} for values in (outputs.hidden, outputs.attentions)
    )
    return TeacherOutputs(outputs.logits, hidden, attentions)  # type: ignore[arg-type]


def take_apart(outputs: TeacherOutputs, batch: Mapping[str, Any]) -> Iterator[dict[str, Row]]:
    """The rows of each example, on the CPU."""
    mask = _mask(batch)
    values = {name: value.detach().cpu() for name, value in outputs.named().items()}
    axes = {name: _token_axes(name, value, mask) for name, value in values.items()}
    for index, (start, stop) in enumerate(_spans(mask, len(outputs.logits))):
        cut = {name: _cut(value[index], axes[name], start, stop) for name, value in values.items()}
        yield {name: Row(value.clone(), axes[name]) for name, value in cut.items()}


def put_together(rows: Sequence[Mapping[str, Row]], batch: Mapping[str, Any]) -> TeacherOutputs:
    """The outputs for a batch of those examples, padded as it is, on its device.

    Raises:
        InputError: an example has another number of tokens than the teacher saw.
    """
    mask = _mask(batch)
    device = next(value.device for value in batch.values() if isinstance(value, Tensor))
    spans = _spans(mask, len(rows))
    width = 0 if mask is None else mask.shape[1]
    values = {
        name: torch.stack([_padded(row[name], span, width) for row, span in zip(rows, spans, strict=True)])
        for name in rows[0]
    }
    return TeacherOutputs.of({name: value.to(device) for name, value in values.items()})


def _mask(batch: Mapping[str, Any]) -> Tensor | None:
    mask = batch.get("attention_mask")
    return mask if isinstance(mask, Tensor) and mask.dim() == 2 else None


def _spans(mask: Tensor | None, rows: int) -> list[tuple[int, int]]:
    """Where each row's tokens begin and end; without a mask nothing is cut."""
    if mask is None:
        return [(0, 0)] * rows
    places = [row.nonzero().flatten().tolist() for row in mask.cpu()]
    return [(found[0], found[-1] + 1) if found else (0, 0) for found in places]


def _token_axes(name: str, value: Tensor, mask: Tensor | None) -> tuple[int, ...]:
    """The axes of one row that count tokens."""
    if mask is None:
        return ()
    if name.startswith(ATTENTION):
        return (1, 2) if value.shape[2:] == (mask.shape[1],) * 2 else ()
    return (0,) if value.dim() > 2 and value.shape[1] == mask.shape[1] else ()


def _cut(value: Tensor, axes: Sequence[int], start: int, stop: int) -> Tensor:
    for axis in axes:
        value = value.narrow(axis, start, stop - start)
    return value


def _padded(row: Row, span: tuple[int, int], width: int) -> Tensor:
    """The row among zeros, where its tokens stand in the new batch."""
    if not row.token_axes:
        return row.value
    start, stop = span
    seen = row.value.shape[row.token_axes[0]]
    if seen != stop - start:
        raise InputError(
            f"An example has {stop - start} tokens where the teacher's kept outputs have {seen}: the data are not the "
            "same in every epoch (random cuts, augmentation). Train without a teacher cache."
        )
    shape = [width if axis in row.token_axes else size for axis, size in enumerate(row.value.shape)]
    padded = row.value.new_zeros(shape)
    _cut(padded, row.token_axes, start, stop).copy_(row.value)
    return padded


def _halved(value: Tensor) -> Tensor:
    limit = torch.finfo(torch.float16).max
    return value.clamp(-limit, limit).to(torch.float16)
