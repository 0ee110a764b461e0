"""Memory: a process of its own sees the weights that a model holds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgefold.artifacts import Artifact
from edgefold.errors import EdgefoldError
from edgefold.runtimes.agent.memory import read_memory, read_waited_s, weigh
from edgefold.runtimes.memory_use import Opening, measure_memory

Make = Callable[..., Artifact]
OPENING = Opening(device="cpu", runtime="onnxruntime", threads=1, spinning=False)


def test_a_larger_model_takes_as_much_more_as_its_weights(make_artifact: Make, tmp_path: Path) -> None:
    sequence = 500_000
    artifact = make_artifact(tmp_path / "large", sequence=sequence)
    weights = 3 * 4 * sequence
    ids = np.ones((1, sequence), np.int64)
    found = measure_memory(artifact, {"input_ids": ids, "attention_mask": ids}, OPENING)
    assert found is not None
    assert found.model_bytes > weights
    assert found.before_bytes > 10e6
    assert "MB at its peak" in str(found)


def test_what_fails_there_is_told_here(make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    with pytest.raises(EdgefoldError, match=r"could not be measured: .*model takes input_ids, attention_mask"):
        measure_memory(artifact, {}, OPENING)


def test_the_peak_covers_opening_and_running() -> None:
    held: list[bytes] = []
    found = weigh(lambda: bytearray(30_000_000), lambda opened: held.append(bytes(opened[:20_000_000])))
    assert found is not None
    assert found["peak_bytes"] - found["before_bytes"] > 50e6  # opened, and what two runs kept


def test_memory_and_waiting_grow_or_stay() -> None:
    first, before = read_memory(), read_waited_s()
    assert first is not None
    assert before is not None
    assert first["peak"] >= first["now"] > 0
    sum(range(100_000))
    after = read_waited_s()
    assert after is not None
    assert after >= before
