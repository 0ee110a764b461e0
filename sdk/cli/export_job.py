"""The export behind `edgefold export`, for text models with a tokenizer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from edgefold.artifacts import Artifact
from edgefold.checkpoints import MANIFEST, read_manifest
from edgefold.cli.answers import Answer
from edgefold.cli.models import count_parameters, encode, encode_batches, find_task, open_model
from edgefold.cli.tables import make_table
from edgefold.cli.tokenizers import open_tokenizer
from edgefold.exporters import export_onnx

EXAMPLE_TEXTS = ("A short example.", "Another example, which is a little longer than the first one.")
"""Of different lengths, so that no size of theirs is taken for a constant."""


def export_text_model(
    folder: Path,
    out: Path,
    *,
    precision: Literal["fp32", "int8"],
    target: str,
    quantization: Literal["static", "dynamic"],
    texts: Sequence[str],
    max_length: int,
    overwrite: bool,
) -> Answer:
    """Open the model and its tokenizer, export, and say what was written.

    Raises:
        InputError: the folder holds no text model with a tokenizer.
        GateError: the artifact does not compute what the model does.
    """
    model, tokenizer = open_model(folder), open_tokenizer(folder)
    artifact = export_onnx(
        model,
        encode(tokenizer, texts[:2] if len(texts) > 1 else EXAMPLE_TEXTS, max_length),
        out,
        precision=precision,
        target=target,
        quantization=quantization,
        calibration=encode_batches(tokenizer, texts, max_length) if texts else None,
        tokenizer=tokenizer,
        task=find_task(folder),
        lineage=_lineage(folder),
        overwrite=overwrite,
    )
    return _answer(out, artifact, model)


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
