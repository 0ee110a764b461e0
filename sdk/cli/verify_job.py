"""The comparison behind `edgefold verify`: an artifact and its origin on the same inputs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.answers import Answer
from edgefold.runtimes import open_session, verify_outputs
from edgefold.runtimes.devices import example_inputs

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.5}
"""Largest difference of an output by precision; int8 moves logits visibly, so its argmax agreement says more."""
BATCH_SIZE = 16
Batch = dict[str, np.ndarray[Any, Any]]


def compare(folder: Path, against: Path, texts: Sequence[str], *, max_length: int, tolerance: float | None) -> Answer:
    """Every output beside the reference's; exit status 3 when they differ by more than the tolerance."""
    artifact = load_artifact(folder)
    allowed = TOLERANCES[artifact.precision] if tolerance is None else tolerance
    batches = _text_batches(artifact, texts, max_length) if texts else _made_up_batches(artifact)
    with open_session(artifact) as session, _reference(against) as reference:
        verification = verify_outputs(session, reference, batches, tolerance=allowed)
    inputs = f"{len(texts)} texts" if texts else f"{len(batches)} made-up batches (give --data for real texts)"
    document = {
        "artifact": str(folder),
        "against": str(against),
        "inputs": inputs,
        "tolerance": allowed,
        "passed": verification.passed,
        "outputs": {},
    }
    return Answer(document, (), 0 if verification.passed else 3)


@contextmanager
def _reference(folder: Path) -> Iterator[Any]:
    """A session of an artifact, or a model of torch as a function."""
    if (folder / "artifact.json").is_file():
        with open_session(load_artifact(folder)) as session:
            yield session
        return
    from edgefold.cli.models import as_function, open_model

    yield as_function(open_model(folder))


def _text_batches(artifact: Artifact, texts: Sequence[str], max_length: int) -> list[Batch]:
    """The texts as the artifact's inputs, with the tokenizer that lies beside it; texts of like length together."""
    from edgefold.cli.tokenizers import open_tokenizer

    tokenizer = open_tokenizer(artifact.folder)
    names = {spec.name: spec.dtype for spec in artifact.inputs}
    ordered = sorted(texts, key=len)
    batches = []
    for start in range(0, len(ordered), BATCH_SIZE):
        encoded = tokenizer(
            ordered[start : start + BATCH_SIZE],
            padding=True,
            truncation=True,
            max_length=max_length,
            return_tensors="np",
        )
        batches.append({name: encoded[name].astype(dtype) for name, dtype in names.items() if name in encoded})
    return batches


def _made_up_batches(artifact: Artifact) -> list[Batch]:
    """A few batches of different shapes."""
    return [
        dict(example_inputs(artifact.inputs, batch=batch, seq=sequence, seed=sequence))
        for batch, sequence in ((1, 7), (2, 16), (3, 31))
    ]
