"""The export behind `edgefold export`, for models of text, images or speech with what prepares their inputs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.checkpoints import MANIFEST, read_manifest
from edgefold.cli.answers import Answer
from edgefold.cli.encoding import Arrays, encode_samples, open_processor
from edgefold.cli.models import count_parameters, find_task, open_model
from edgefold.cli.samples import Kind, example_samples
from edgefold.cli.tables import make_table
from edgefold.exporters import export_generator, export_onnx

GENERATED = ("text-generation", "text2text-generation", "automatic-speech-recognition")
"""Tasks whose models generate text step by step."""
COMPARED = 8
"""Samples on which generation is compared with torch."""


def export_checkpoint(
    folder: Path,
    out: Path,
    *,
    precision: Literal["fp32", "int8"],
    target: str,
    quantization: Literal["static", "dynamic"],
    kind: Kind,
    samples: Sequence[Any],
    max_length: int,
    overwrite: bool,
) -> Answer:
    """Open the model and its tokenizer or image processor, export, and say what was written.

    Raises:
        InputError: the folder holds no model with a tokenizer, an image processor or a feature extractor.
        GateError: the artifact does not compute what the model does.
    """
    model, processor = open_model(folder), open_processor(folder, kind)
    examples = samples[:2] if len(samples) > 1 else example_samples(kind)
    task = find_task(folder)
    if task in GENERATED:
        some = (samples or examples)[:COMPARED]
        inputs, *_ = _as_tensors(encode_samples(folder, kind, processor, some, max_length, COMPARED))
        artifact = export_generator(
            model,
            inputs,
            out,
            precision=precision,
            target=target,
            tokenizer=folder,
            lineage=_lineage(folder),
            overwrite=overwrite,
        )
        return _answer(out, artifact, model)
    (inputs,) = _as_tensors(encode_samples(folder, kind, processor, examples, max_length))
    artifact = export_onnx(
        model,
        inputs,
        out,
        precision=precision,
        target=target,
        quantization=quantization,
        calibration=_as_tensors(encode_samples(folder, kind, processor, samples, max_length)) if samples else None,
        tokenizer=processor,
        task=task,
        lineage=_lineage(folder),
        overwrite=overwrite,
    )
    return _answer(out, artifact, model)


def _as_tensors(batches: Iterable[Arrays]) -> list[dict[str, Tensor]]:
    return [{name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in batch.items()} for batch in batches]


def _lineage(folder: Path) -> dict[str, Any]:
    """What the student's own manifest tells; a plain checkpoint is its own teacher."""
    if (folder / MANIFEST).is_file():
        return dict(read_manifest(folder)["lineage"])
    return {"teacher": folder.resolve().name}


def _answer(out: Path, artifact: Artifact, model: nn.Module) -> Answer:
    document = {
        "artifact": str(out),
        "format": artifact.format,
        "precision": artifact.precision,
        "target": artifact.target,
        "size_bytes": artifact.size_bytes,
        "parameters": count_parameters(model),
        "parity": artifact.lineage["parity"],
    }
    parity = [(f"largest error, {name} against torch", error) for name, error in document["parity"].items()]
    rows = [(name.replace("_", " "), value) for name, value in document.items() if name != "parity"]
    return Answer(document, (make_table("Artifact", ("fact", "value"), rows + parity), f"Next: edgefold bench {out}"))
