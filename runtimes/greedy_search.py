"""Greedy search in numpy: the likeliest token of every row, step by step, until each row has ended."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Generation
from edgefold.errors import InputError

Ids = NDArray[np.int64]
Step = Callable[[Ids], NDArray[np.floating[Any]]]
"""New tokens (rows, n) -> logits of the token after them (rows, vocabulary)."""


def search(step: Step, prompt: Ids, settings: Generation, max_new_tokens: int) -> list[Ids]:
    """The new tokens of each row, its end included; a row that has ended is fed with padding until all have.

    Args:
        prompt: (rows, n), what the first step is given.

    Raises:
        InputError: no room for a new token.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens={max_new_tokens} must be at least 1.")
    columns: list[Ids] = []
    alive = np.ones(len(prompt), bool)
    given = prompt
    while alive.any() and len(columns) < max_new_tokens:
        chosen = _choose(step(given), settings, is_first=not columns)
        if settings.last_id is not None and len(columns) == max_new_tokens - 1:
            chosen = np.full_like(chosen, settings.last_id)
        column = np.where(alive, chosen, settings.pad_id)
        columns.append(column)
        alive &= ~np.isin(column, settings.end_ids)
        given = column[:, None]
    return [_until_end(row, settings) for row in np.stack(columns, axis=1)]


def _choose(logits: NDArray[np.floating[Any]], settings: Generation, is_first: bool) -> Ids:
    """(rows, vocabulary) -> (rows,). Ids beyond a vocabulary that became smaller forbid nothing, as in transformers."""
    forbidden = (*settings.never_ids, *(settings.never_first_ids if is_first else ()))
    if never := [token for token in forbidden if token < logits.shape[-1]]:
        logits = logits.copy()
        logits[:, never] = -np.inf
    chosen: Ids = logits.argmax(-1).astype(np.int64)
    return chosen


def _until_end(row: Ids, settings: Generation) -> Ids:
    ends = np.flatnonzero(np.isin(row, settings.end_ids))
    return row[: ends[0] + 1] if len(ends) else row
