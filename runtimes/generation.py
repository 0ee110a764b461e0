"""generate: text from a causal language model, greedily, with a cache of keys and values; numpy alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Generation, TensorSpec
from edgefold.errors import InputError
from edgefold.runtimes.greedy_search import Ids, search
from edgefold.runtimes.sessions import Arrays, Session

PAST, PRESENT = "past_key_values.", "present."


def generate(
    session: Session,
    prompts: Sequence[Sequence[int]] | Ids,
    max_new_tokens: int,
    *,
    end_ids: Sequence[int] | None = None,
) -> list[Ids]:
    """The new tokens of each prompt, its end token included; the likeliest token at every step.

    Args:
        prompts: rows of token ids, of any lengths; shorter ones are padded on the left and the padding is masked.
        end_ids: ids that end a row; the artifact's own by default. () goes on to `max_new_tokens`.

    Raises:
        InputError: an artifact without a cache, an empty prompt, or prompts longer than the model's positions.
    """
    settings = generation_of(session)
    if end_ids is not None:
        settings = settings.model_copy(update={"end_ids": tuple(end_ids)})
    ids, mask = pad_left(prompts, settings.pad_id)
    return search(CausalSteps(session, mask), ids, settings, max_new_tokens)


class CausalSteps:
    """Passes over new tokens one after another, each with the keys and values of those before."""

    def __init__(self, session: Session, mask: Ids) -> None:
        """mask: (rows, tokens of the first pass), 0 where a row is padded."""
        self._session = session
        self._mask = mask
        self._names = {spec.name for spec in session.inputs}
        self.cache = empty_cache(session.inputs, len(mask))

    def __call__(self, ids: Ids) -> NDArray[np.floating[Any]]:
        """(rows, n) -> logits of the next token (rows, vocabulary)."""
        last: NDArray[np.floating[Any]] = self.advance(ids)[:, -1]
        return last

    def advance(self, ids: Ids) -> NDArray[np.floating[Any]]:
        """(rows, n) -> logits (rows, n, vocabulary)."""
        past = next(iter(self.cache.values())).shape[2]
        missing = past + ids.shape[1] - self._mask.shape[1]
        if missing > 0:
            self._mask = np.concatenate([self._mask, np.ones((len(ids), missing), np.int64)], axis=1)
        mask = self._mask[:, : past + ids.shape[1]]
        positions = np.maximum(mask.cumsum(1) - 1, 0)[:, past:]
        feeds = {"input_ids": ids, "attention_mask": mask, "position_ids": positions, **self.cache}
        outputs = self._session.run({name: value for name, value in feeds.items() if name in self._names})
        self.cache = take_presents(outputs)
        return outputs["logits"]


def generation_of(session: Session) -> Generation:
    """The settings of a session that has a cache.

    Raises:
        InputError: it has none.
    """
    if session.generation is None or not any(spec.name.startswith(PAST) for spec in session.inputs):
        raise InputError(
            f"{session.label} passes no keys and values from step to step, so it generates no text; export the "
            "language model with edgefold.exporters.export_generator, or `edgefold export`."
        )
    return session.generation


def empty_cache(specs: Sequence[TensorSpec], rows: int) -> Arrays:
    """Keys and values of no positions."""
    return {
        spec.name: np.zeros([_size(size, rows) for size in spec.shape], spec.dtype)
        for spec in specs
        if spec.name.startswith(PAST)
    }


def take_presents(outputs: Arrays) -> Arrays:
    """The keys and values that came out, as those that go in next."""
    found = {name: value for name, value in outputs.items() if name.startswith(PRESENT)}
    return {f"{PAST}{name.removeprefix(PRESENT)}": value for name, value in found.items()}


def pad_left(prompts: Sequence[Sequence[int]] | Ids, pad_id: int) -> tuple[Ids, Ids]:
    """Ids and mask (rows, longest).

    Raises:
        InputError: no prompt, an empty one, or one that is no row of whole numbers.
    """
    rows = [np.asarray(prompt) for prompt in prompts]
    for index, row in enumerate(rows):
        if row.ndim != 1 or not len(row) or not np.issubdtype(row.dtype, np.integer):
            raise InputError(
                f"Prompt {index} must be a row of at least one token id; got shape {row.shape} of {row.dtype}."
            )
    if not rows:
        raise InputError("There is no prompt; give at least one row of token ids.")
    longest = max(map(len, rows))
    ids = np.full((len(rows), longest), pad_id, np.int64)
    mask = np.zeros((len(rows), longest), np.int64)
    for index, row in enumerate(rows):
        ids[index, longest - len(row) :] = row
        mask[index, longest - len(row) :] = 1
    return ids, mask


def _size(size: int | str, rows: int) -> int:
    return size if isinstance(size, int) else rows if size == "batch" else 0
