"""Artifacts that generate text as functions of whole texts: read in two passes, the second with a cache."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import InputError
from edgefold.runtimes import generate_sequence, open_sequence_sessions, open_session
from edgefold.runtimes.generation import CausalSteps
from edgefold.runtimes.sequence_generation import SequenceSteps
from edgefold.runtimes.verification import Run

Array = NDArray[Any]
Batch = dict[str, Array]
TARGETS = 16
"""Tokens that an encoder-decoder generates to be compared on."""


@contextmanager
def open_run(artifact: Artifact, device: str = "cpu", runtime: str | None = None) -> Iterator[Run]:
    """The artifact as a function of a batch, whatever passes it takes.

    Raises:
        InputError: an encoder-decoder elsewhere than in ONNX Runtime on this machine's CPU.
    """
    if artifact.parts:
        if (device, runtime or "onnxruntime") != ("cpu", "onnxruntime"):
            raise InputError(
                "An encoder-decoder is verified on this machine's CPU alone, in onnxruntime; got the device "
                f"{device!r}, {runtime}."
            )
        with open_sequence_sessions(artifact) as sessions:
            yield lambda batch: {
                "logits": _in_two(SequenceSteps(sessions, source_of(batch)).advance, batch["decoder_input_ids"])
            }
    elif artifact.generation:
        with open_session(artifact, device=device, runtime=runtime) as session:
            yield lambda batch: {
                "logits": _in_two(CausalSteps(session, batch["attention_mask"]).advance, batch["input_ids"])
            }
    else:
        with open_session(artifact, device=device, runtime=runtime) as session:
            yield session.run


def with_targets(artifact: Artifact, batches: list[Batch]) -> list[Batch]:
    """The batches with what the encoder-decoder itself makes of them, for both sides to be compared on."""
    found = []
    with open_sequence_sessions(artifact) as sessions:
        starts, pad = sessions.generation.start_ids, sessions.generation.pad_id
        for batch in batches:
            targets = _rows(generate_sequence(sessions, batch, TARGETS), starts, pad)
            found.append({**batch, "decoder_input_ids": targets})
    return found


def unpadded(run: Run) -> Run:
    """The logits of padding as zeros: what stands there means nothing, and differs with how a mask is computed."""
    return lambda batch: {
        name: value * batch["attention_mask"][..., None] for name, value in run(batch).items() if name == "logits"
    }


def source_of(batch: Mapping[str, Array]) -> Batch:
    return {name: value for name, value in batch.items() if name != "decoder_input_ids"}


def _in_two(advance: Callable[[Array], Array], ids: Array) -> Array:
    """(rows, n) -> (rows, n, vocabulary)."""
    half = max(1, ids.shape[1] // 2)
    return np.concatenate([advance(piece) for piece in (ids[:, :half], ids[:, half:]) if piece.shape[1]], axis=1)


def _rows(new: list[Array], starts: tuple[int, ...], pad: int) -> Array:
    longest = max(map(len, new))
    return np.array([[*starts, *row, *[pad] * (longest - len(row))] for row in new], np.int64)
