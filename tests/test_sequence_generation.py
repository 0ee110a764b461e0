"""generate_sequence: the source is encoded once, the first step fills the cache, all others read it. No torch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgefold.artifacts import Artifact, Generation, TensorSpec
from edgefold.errors import InputError
from edgefold.runtimes import SequenceSessions, generate_sequence, open_sequence_sessions

VOCABULARY = 13
OWN, ACROSS = "past_key_values.0.decoder.key", "past_key_values.0.encoder.key"


class Graph:
    """The likeliest token is the sum of the source and of all target tokens so far, modulo the vocabulary."""

    def __init__(self, *names: str) -> None:
        self.inputs = tuple(TensorSpec(name=name, dtype="float32", shape=("batch",)) for name in names)
        self.calls: list[set[str]] = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        self.calls.append(set(feeds))
        assert set(feeds) == {spec.name for spec in self.inputs}
        if "attention_mask" in feeds:
            return {"last_hidden_state": (feeds["input_ids"] * feeds["attention_mask"])[..., None]}
        ids = feeds["input_ids"]
        across = feeds[ACROSS] if ACROSS in feeds else feeds["encoder_hidden_states"].sum((1, 2))
        own = np.concatenate([feeds[OWN], ids], axis=1) if OWN in feeds else ids
        sums = (own.cumsum(1)[:, -ids.shape[1] :] + across[:, None]).astype(int)
        presents = {"present.0.decoder.key": own, **({} if ACROSS in feeds else {"present.0.encoder.key": across})}
        return {"logits": np.eye(VOCABULARY)[sums % VOCABULARY], **presents}


def sessions(**fields: Any) -> Any:
    return SequenceSessions(
        encoder=Graph("input_ids", "attention_mask"),  # type: ignore[arg-type]
        decoder=Graph("input_ids", "encoder_hidden_states", "encoder_attention_mask"),  # type: ignore[arg-type]
        decoder_with_past=Graph("input_ids", "encoder_attention_mask", OWN, ACROSS),  # type: ignore[arg-type]
        generation=Generation(layers=1, **{"start_ids": (1,), "end_ids": (4,), **fields}),
    )


SOURCE = {"input_ids": np.array([[5, 6, 9], [2, 7, 3]]), "attention_mask": np.array([[1, 1, 0], [1, 1, 1]])}


def continued(source: int, starts: list[int], count: int) -> list[int]:
    row = list(starts)
    for _ in range(count):
        row.append((source + sum(row)) % VOCABULARY)
    return row[len(starts) :]


@pytest.mark.parametrize("starts", [[1], [1, 2, 8]])
def test_the_source_is_encoded_once_and_the_cache_carries_on(starts: list[int]) -> None:
    opened = sessions(end_ids=())
    found = generate_sequence(opened, SOURCE, 6, start_ids=starts)
    assert [row.tolist() for row in found] == [continued(source, starts, 6) for source in (11, 12)]
    calls = [len(graph.calls) for graph in (opened.encoder, opened.decoder, opened.decoder_with_past)]
    assert calls == [1, 1, 5]


def test_the_artifact_says_what_the_decoder_begins_with() -> None:
    assert generate_sequence(sessions(), SOURCE, 1)[0].tolist() == continued(11, [1], 1)
    with pytest.raises(InputError, match=r"does not say what its decoder begins with; give start_ids=\[\.\.\.\]"):
        generate_sequence(sessions(start_ids=()), SOURCE, 1)


def test_a_single_graph_is_refused(make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    with (
        pytest.raises(InputError, match="a is no encoder-decoder: its parts are a single graph; wanted encoder"),
        open_sequence_sessions(artifact),
    ):
        pass
