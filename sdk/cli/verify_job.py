"""The comparison behind `edgefold verify`: an artifact and its origin on the same inputs."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.answers import Answer
from edgefold.cli.generation_runs import open_run, unpadded, with_targets
from edgefold.cli.samples import Kind
from edgefold.cli.tables import make_table
from edgefold.runtimes import example_inputs, verify_outputs
from edgefold.runtimes.verification import OutputAgreement, Run

Batch = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Gate:
    """What an artifact may differ by from its reference."""

    tolerance: float | None
    """Largest absolute difference in any output; None does not look at it."""
    agreement: float
    """Least share of vectors whose largest value stands at the same place."""

    def passes(self, output: OutputAgreement) -> bool:
        is_close = self.tolerance is None or output.max_error <= self.tolerance  # NaN is not
        return is_close and output.argmax_agreement >= self.agreement and math.isfinite(output.max_error)


GATES = {"fp32": Gate(1e-4, 0.0), "fp16": Gate(1e-2, 0.0), "int8": Gate(None, 0.95)}
"""By precision. int8 moves every value a little, so what counts is how often it decides otherwise."""


def compare(
    folder: Path,
    against: Path,
    kind: Kind,
    samples: Sequence[Any],
    *,
    device: str,
    runtime: str,
    max_length: int,
    tolerance: float | None = None,
    agreement: float | None = None,
) -> Answer:
    """Every output beside the reference's; exit status 3 when they differ by more than the gate lets through."""
    artifact = load_artifact(folder)
    gate = GATES[artifact.precision]
    gate = Gate(gate.tolerance if tolerance is None else tolerance, gate.agreement if agreement is None else agreement)
    batches = _real_batches(artifact, kind, samples, max_length) if samples else _made_up_batches(artifact)
    if artifact.parts:
        batches = with_targets(artifact, batches)
    with open_run(artifact, device, runtime) as candidate, _reference(against) as reference:
        if artifact.generation and not artifact.parts:
            candidate, reference = unpadded(candidate), unpadded(reference)
        outputs = verify_outputs(candidate, reference, batches).outputs
    passed = all(map(gate.passes, outputs.values()))
    document = {
        "artifact": str(folder),
        "against": str(against),
        "device": device,
        "runtime": runtime,
        "inputs": f"{len(samples)} {kind}" if samples else f"{len(batches)} made-up batches",
        "gate": asdict(gate),
        "passed": passed,
        "outputs": {name: output.model_dump() for name, output in outputs.items()},
    }
    return Answer(document, _texts(document, gate), 0 if passed else 3)


def _texts(document: dict[str, Any], gate: Gate) -> tuple[Any, ...]:
    columns = ("output", "largest error", "mean error", "cosine", "same argmax")
    rows = [(name, *output.values()) for name, output in document["outputs"].items()]
    limit = "" if gate.tolerance is None else f"largest error at most {gate.tolerance:g}, "
    verdict = "passed" if document["passed"] else "MISSED"
    return (
        make_table(f"{document['artifact']} against {document['against']}, {document['inputs']}", columns, rows),
        f"Gate {verdict}: {limit}same argmax at least {gate.agreement:g}.",
    )


@contextmanager
def _reference(folder: Path) -> Iterator[Run]:
    """A session of an artifact, or a model of torch as a function."""
    if (folder / "artifact.json").is_file():
        with open_run(load_artifact(folder)) as run:
            yield run
        return
    from edgefold.cli.models import as_function, open_model

    yield as_function(open_model(folder))


def _real_batches(artifact: Artifact, kind: Kind, samples: Sequence[Any], max_length: int) -> list[Batch]:
    """The samples as the artifact's inputs, with the tokenizer or image processor that lies beside it."""
    from edgefold.cli.encoding import encode_samples, open_processor

    processor = open_processor(artifact.folder, kind)
    if artifact.generation and kind == "texts":
        processor.padding_side = "right"  # where torch, too, counts positions from the first token
    types = {spec.name: spec.dtype for spec in artifact.inputs}
    return [
        {name: array.astype(types[name]) for name, array in batch.items() if name in types}
        for batch in encode_samples(artifact.folder, kind, processor, samples, max_length)
    ]


def _made_up_batches(artifact: Artifact) -> list[Batch]:
    """A few batches of different shapes."""
    has_cache = artifact.generation and not artifact.parts
    specs = [spec for spec in artifact.inputs if not has_cache or spec.name in ("input_ids", "attention_mask")]
    return [
        example_inputs(specs, batch=batch, sequence=sequence, seed=sequence, vocab_size=artifact.vocab_size)
        for batch, sequence in ((1, 7), (2, 16), (3, 31))
    ]
