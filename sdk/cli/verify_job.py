"""The comparison behind `edgefold verify`: an artifact and its origin on the same inputs."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.answers import Answer
from edgefold.cli.generation_runs import open_run, unpadded, with_targets
from edgefold.cli.paths import is_packed
from edgefold.cli.samples import Kind
from edgefold.cli.tables import make_table
from edgefold.exporters.precisions import MOST_DIVERGENCE
from edgefold.recipes.stages import VALUED
from edgefold.runtimes import example_inputs, verify_outputs
from edgefold.runtimes.sessions import usual_runtime
from edgefold.runtimes.verification import OutputAgreement, Run

Batch = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Gate:
    """What an artifact may differ by from its reference."""

    tolerance: float | None
    """Largest absolute difference in any output; None does not look at it."""
    agreement: float
    """Least share of vectors whose largest value stands at the same place."""
    divergence: float | None = None
    """Largest mean divergence of logits from the reference's, in nats; None does not look at it."""
    missed: float | None = None
    """Largest share of the reference's variance that the differences make up, of numbers; and of outputs of which it is
    not known whether they decide, where the argmax does not agree. None does not look at it."""
    in_units: bool = False
    """Whether the tolerance is in units of the reference's largest value, where that is above 1."""

    def passes(self, name: str, output: OutputAgreement, are_numbers: bool) -> bool:
        unit = max(1.0, output.largest) if self.in_units else 1.0
        is_close = self.tolerance is None or output.max_error <= self.tolerance * unit  # NaN is not
        is_like = self.divergence is None or output.divergence is None or output.divergence <= self.divergence
        return is_close and is_like and self._keeps(name, output, are_numbers) and math.isfinite(output.max_error)

    def _keeps(self, name: str, output: OutputAgreement, are_numbers: bool) -> bool:
        decides_alike = output.argmax_agreement >= self.agreement
        if self.missed is None:
            return decides_alike
        if are_numbers or output.width == 1:
            return output.missed <= self.missed
        return decides_alike or ("logits" not in name and output.missed <= self.missed)


GATES = {
    "fp32": Gate(1e-4, 0.0),
    "fp16": Gate(1e-2, 0.0, in_units=True),
    "int8": Gate(None, 0.95, missed=0.05),
    **{name: Gate(None, 0.0, divergence=most) for name, most in MOST_DIVERGENCE.items()},
}
"""By precision. int8 moves every value a little, so what counts is how often it decides otherwise, or how much of the
variance of numbers it misses; of weights in few bits, how far the distribution of the next token moves."""


def compare(
    folder: Path,
    against: Path,
    kind: Kind,
    samples: Sequence[Any],
    *,
    device: str,
    runtime: str | None,
    max_length: int,
    tolerance: float | None = None,
    agreement: float | None = None,
) -> Answer:
    """Every output beside the reference's; exit status 3 when they differ by more than the gate lets through."""
    artifact = load_artifact(folder)
    gate = GATES[artifact.precision]
    gate = gate if tolerance is None else replace(gate, tolerance=tolerance, in_units=False)
    gate = gate if agreement is None else replace(gate, agreement=agreement, missed=None)
    batches = _real_batches(artifact, kind, samples, max_length) if samples else _made_up_batches(artifact)
    if artifact.parts:
        batches = with_targets(artifact, batches)
    with open_run(artifact, device, runtime) as candidate, _reference(against) as reference:
        if artifact.generation and not artifact.parts:
            candidate, reference = unpadded(candidate), unpadded(reference)
        outputs = verify_outputs(candidate, reference, batches).outputs
    are_numbers = artifact.lineage.get("task") in VALUED
    passed = all(gate.passes(name, output, are_numbers) for name, output in outputs.items())
    document = {
        "artifact": str(folder),
        "against": str(against),
        "device": device,
        "runtime": runtime or usual_runtime(artifact, device),
        "inputs": f"{len(samples)} {_called(kind, samples)}" if samples else f"{len(batches)} made-up batches",
        "gate": asdict(gate),
        "passed": passed,
        "outputs": {name: output.model_dump() for name, output in outputs.items()},
    }
    return Answer(document, _texts(document, gate), 0 if passed else 3)


def _called(kind: Kind, samples: Sequence[Any]) -> str:
    return "texts" if kind == "pairs" and isinstance(samples[0], str) else kind


def _texts(document: dict[str, Any], gate: Gate) -> tuple[Any, ...]:
    columns = {
        "largest error": "max_error",
        "mean error": "mean_error",
        "cosine": "cosine",
        "same argmax": "argmax_agreement",
        "missed variance": "missed",
        "divergence": "divergence",
    }
    rows = [(name, *(output[key] for key in columns.values())) for name, output in document["outputs"].items()]
    unit = " of the largest value" if gate.in_units else ""
    limit = "" if gate.tolerance is None else f"largest error at most {gate.tolerance:g}{unit}, "
    limit += "" if gate.divergence is None else f"divergence at most {gate.divergence:g} nats, "
    limit += "" if gate.missed is None else f"of numbers at most {gate.missed:g} of the variance missed, "
    verdict = "passed" if document["passed"] else "MISSED"
    return (
        make_table(
            f"{document['artifact']} against {document['against']}, {document['inputs']}", ("output", *columns), rows
        ),
        f"Gate {verdict}: {limit}same argmax at least {gate.agreement:g}.",
    )


@contextmanager
def _reference(folder: Path) -> Iterator[Run]:
    """A session of an artifact, or a model of torch as a function."""
    if is_packed(folder) or (folder / "artifact.json").is_file():
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
    if kind == "texts" and "token_type_ids" in types:
        kind = "pairs"
    return [
        {name: array.astype(types[name]) for name, array in batch.items() if name in types}
        for batch in encode_samples(artifact.folder, kind, processor, samples, max_length)
    ]


def _made_up_batches(artifact: Artifact) -> list[Batch]:
    """A few batches of different shapes."""
    has_cache = artifact.generation and not artifact.parts
    specs = [spec for spec in artifact.inputs if not has_cache or spec.name in ("input_ids", "attention_mask")]
    return [
        example_inputs(
            specs,
            batch=batch,
            sequence=sequence,
            seed=sequence,
            vocab_size=artifact.vocab_size,
            limits=artifact.limits,
        )
        for batch, sequence in ((1, 7), (2, 16), (3, 31))
    ]
