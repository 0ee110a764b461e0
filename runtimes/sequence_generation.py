"""generate_sequence: a translation, summary or transcription from an encoder-decoder, greedily; numpy alone."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Artifact, Generation, load_artifact
from edgefold.errors import InputError
from edgefold.runtimes.generation import take_presents
from edgefold.runtimes.greedy_search import Ids, search
from edgefold.runtimes.sessions import Arrays, Session, open_session

PARTS = ("encoder", "decoder", "decoder_with_past")


@dataclass(frozen=True)
class SequenceSessions:
    """The opened graphs of an encoder-decoder."""

    encoder: Session
    decoder: Session
    """The first step, which computes the keys and values of the encoded source as well."""
    decoder_with_past: Session
    """Every step after it."""
    generation: Generation


@contextmanager
def open_sequence_sessions(
    artifact: Artifact | str | Path, *, device: str = "cpu", runtime: str = "onnxruntime", threads: int = 1
) -> Iterator[SequenceSessions]:
    """Open the three graphs of an encoder-decoder; arguments as of `open_session`.

    Raises:
        InputError: the artifact has other parts.
    """
    opened = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    if set(PARTS) - set(opened.parts) or opened.generation is None:
        raise InputError(
            f"{opened.folder} is no encoder-decoder: its parts are {', '.join(opened.parts) or 'a single graph'}; "
            f"wanted {', '.join(PARTS)}, as edgefold.exporters.export_generator writes them."
        )
    with ExitStack() as stack:
        encoder, decoder, with_past = (
            stack.enter_context(open_session(opened.part(name), device=device, runtime=runtime, threads=threads))
            for name in PARTS
        )
        yield SequenceSessions(encoder, decoder, with_past, opened.generation)


def generate_sequence(
    sessions: SequenceSessions,
    inputs: Mapping[str, NDArray[np.generic]],
    max_new_tokens: int,
    *,
    start_ids: Sequence[int] | None = None,
) -> list[Ids]:
    """The new tokens of each row, its end token included, what the decoder begins with left out.

    Args:
        inputs: of the encoder: input_ids and attention_mask, or input_features.
        start_ids: what the decoder begins with; the artifact's own by default.

    Raises:
        InputError: inputs that do not fit the encoder, or nothing to begin with.
    """
    starts = tuple(sessions.generation.start_ids if start_ids is None else start_ids)
    if not starts:
        raise InputError("The artifact does not say what its decoder begins with; give start_ids=[...].")
    steps = SequenceSteps(sessions, inputs)
    prompt = np.tile(np.asarray(starts, np.int64), (steps.rows, 1))
    return search(steps, prompt, sessions.generation, max_new_tokens)


class SequenceSteps:
    """The source encoded once, then passes over target tokens one after another."""

    def __init__(self, sessions: SequenceSessions, inputs: Mapping[str, NDArray[np.generic]]) -> None:
        self._sessions = sessions
        self._hidden = sessions.encoder.run(inputs)["last_hidden_state"]
        mask = inputs.get("attention_mask")
        self._mask: Arrays = {} if mask is None else {"encoder_attention_mask": mask}
        self._cache: Arrays = {}
        self.rows = len(self._hidden)

    def __call__(self, ids: Ids) -> NDArray[np.floating[Any]]:
        """(rows, n) -> logits of the next token (rows, vocabulary)."""
        last: NDArray[np.floating[Any]] = self.advance(ids)[:, -1]
        return last

    def advance(self, ids: Ids) -> NDArray[np.floating[Any]]:
        """(rows, n) -> logits (rows, n, vocabulary)."""
        session = self._sessions.decoder_with_past if self._cache else self._sessions.decoder
        state = self._cache or {"encoder_hidden_states": self._hidden}
        feeds = {"input_ids": ids, **self._mask, **state}
        names = {spec.name for spec in session.inputs}
        outputs = session.run({name: value for name, value in feeds.items() if name in names})
        self._cache = {**self._cache, **take_presents(outputs)}
        return outputs["logits"]
