"""The export behind `edgefold export`, for models of text, images or speech with what prepares their inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefold.artifacts import Artifact, Precision
from edgefold.checkpoints import MANIFEST, read_manifest
from edgefold.cli.answers import Answer
from edgefold.cli.encoding import Arrays, encode_samples, open_processor
from edgefold.cli.int8_job import export_best_int8
from edgefold.cli.models import as_function, count_parameters, find_task, open_model
from edgefold.cli.samples import Kind, example_samples, input_facts
from edgefold.cli.tables import make_table
from edgefold.exporters import export_generator, export_onnx, write_transformers_js
from edgefold.exporters.optimum_layout import TOKENIZER_FILES
from edgefold.exporters.quantization import Quantization
from edgefold.exporters.sensitivity import LayerSensitivity
from edgefold.exporters.targets import choose_opset
from edgefold.graphs.input_facts import ROWS, make_up_inputs

GENERATED = ("text-generation", "text2text-generation", "automatic-speech-recognition")
"""Tasks whose models generate text step by step."""
COMPARED = 8
"""Samples on which generation is compared with torch."""


def export_checkpoint(
    folder: Path,
    out: Path,
    *,
    precision: Precision,
    target: str,
    others: Sequence[str],
    opset: int | None,
    quantization: Quantization | None,
    kind: Kind,
    samples: Sequence[Any],
    max_length: int,
    runs_here: bool,
    shows_layers: bool,
    layout: str,
    overwrite: bool,
) -> Answer:
    """Open the model and its tokenizer or image processor, export, and say what was written.

    Args:
        others: targets that int8 may be for as well, where that is measured to be the best.
        quantization: None measures which int8 is the best.
        runs_here: whether the target is this machine.
        shows_layers: whether to tell how sensitive each layer is to int8.
        layout: "transformers.js", or that of optimum.

    Raises:
        InputError: the folder holds no model with a tokenizer, an image processor or a feature extractor.
        GateError: the artifact does not compute what the model does.
    """
    if kind == "made-up":
        kept = choose_opset(target, opset) if layout == "transformers.js" else opset
        options: dict[str, Any] = {"precision": precision, "target": target, "opset": kept, "overwrite": overwrite}
        return _export_made_up(folder, out, quantization or "dynamic", layout, options)
    model, processor = open_model(folder), open_processor(folder, kind)
    examples = samples[:2] if len(samples) > 1 else _examples(folder, kind)
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
            opset=opset,
            tokenizer=folder,
            lineage=_lineage(folder),
            overwrite=overwrite,
        )
        return _answer(out, _laid_out(artifact, layout), model)
    if layout == "transformers.js":
        opset = choose_opset(target, opset)  # and no newer one in int8: its runtime may be years old
    (inputs,) = _as_tensors(encode_samples(folder, kind, processor, examples, max_length))
    batches = _as_tensors(encode_samples(folder, kind, processor, samples, max_length)) if samples else None
    for batch in (inputs, *(batches or [])) if kind == "tensors" else ():
        as_function(model)(batch)  # else it is the exporter that says what does not fit
    common: dict[str, Any] = {
        "target": target,
        "opset": opset,
        "tokenizer": processor,
        "task": None if kind == "tensors" else task,
        "lineage": _lineage(folder),
        **({"dynamic_axes": {name: {0: "batch"} for name in inputs}} if kind == "tensors" else {}),
    }
    if precision == "int8" and quantization is None:
        artifact, layers = export_best_int8(
            lambda fp32: export_onnx(model, inputs, fp32, **common),
            batches or [],
            out,
            target=target,
            others=others,
            opset=opset,
            runs_here=runs_here,
            overwrite=overwrite,
        )
        return _answer(out, _laid_out(artifact, layout), model, layers if shows_layers else [])
    artifact = export_onnx(
        model,
        inputs,
        out,
        precision=precision,
        quantization=quantization or "static",
        calibration=batches,
        overwrite=overwrite,
        **common,
    )
    return _answer(out, _laid_out(artifact, layout), model)


def _examples(folder: Path, kind: Kind) -> Sequence[Any]:
    """Two samples without meaning; of tensors, such as the folder tells."""
    if kind != "tensors":
        return example_samples(kind)
    made = make_up_inputs(input_facts(folder))
    return [{name: value[row].numpy() for name, value in made.items()} for row in range(ROWS)]


def _export_made_up(
    folder: Path, out: Path, quantization: Quantization, layout: str, options: Mapping[str, Any]
) -> Answer:
    """The export of a model that reads what no tokenizer or processor is asked for here."""
    from edgefold.cli.optimum_inputs import make_inputs, name_task

    model = open_model(folder)
    inputs, axes = make_inputs(model, folder)
    artifact = export_onnx(
        model,
        inputs,
        out,
        quantization=quantization,
        tokenizer=folder if any((folder / name).is_file() for name in TOKENIZER_FILES) else None,
        task=name_task(model),
        lineage=_lineage(folder),
        dynamic_axes=axes,
        **options,
    )
    return _answer(out, _laid_out(artifact, layout), model)


def _laid_out(artifact: Artifact, layout: str) -> Artifact:
    if layout != "transformers.js":
        return artifact
    return write_transformers_js([artifact], artifact.folder, overwrite=True)


def _as_tensors(batches: Iterable[Arrays]) -> list[dict[str, Tensor]]:
    return [{name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in batch.items()} for batch in batches]


def _lineage(folder: Path) -> dict[str, Any]:
    """What the student's own manifest tells; a plain checkpoint is its own teacher."""
    if (folder / MANIFEST).is_file():
        facts = input_facts(folder)
        return {**read_manifest(folder)["lineage"], **({"inputs": facts} if facts else {})}
    return {"teacher": folder.resolve().name}


def _answer(out: Path, artifact: Artifact, model: nn.Module, layers: Sequence[LayerSensitivity] = ()) -> Answer:
    told: dict[str, Any] = {
        name: artifact.lineage[name] for name in ("parity", "opset", "kept_fp32", "int8") if name in artifact.lineage
    }
    document: dict[str, Any] = {
        "artifact": str(out),
        "format": artifact.format,
        "precision": artifact.precision,
        "target": artifact.target,
        "size_bytes": artifact.size_bytes,
        "parameters": count_parameters(model),
        **told,
        **({"sensitivity": [asdict(layer) for layer in layers]} if layers else {}),
    }
    facts = [(name.replace("_", " "), value) for name, value in document.items() if not isinstance(value, dict | list)]
    parity = [(_called(name), value) for name, value in told["parity"].items()]
    kept = ", ".join(f"{count} {kind}" for kind, count in told.get("kept_fp32", {}).items())
    rows = facts + parity + ([("kept in fp32", kept)] if kept else [])
    texts = [make_table("Artifact", ("fact", "value"), rows), *_tried(told.get("int8")), *_sensitivity(layers)]
    return Answer(document, (*texts, f"Next: edgefold bench {out}"))


def _called(measure: str) -> str:
    """What a figure of parity is, in words."""
    precision, _, kind = measure.partition("_")
    words = {"": "largest error", "same_choice": "same likeliest token", "divergence": "divergence in nats"}
    return f"{words[kind]}, {precision} against torch"


def _tried(int8: dict[str, Any] | None) -> list[Any]:
    if int8 is None:
        return []
    (kind,) = int8["gate"]
    rows = [
        (
            ("-> " if c["name"] == int8["chosen"] else "") + c["name"],
            c["runtime"],
            c[kind],
            None if c["seconds"] is None else c["seconds"] * 1e3,
            c["size_bytes"] / 1e6,
        )
        for c in int8["candidates"]
    ]
    fp32 = int8["fp32"]
    before = None if fp32["seconds"] is None else fp32["seconds"] * 1e3
    rows.insert(0, ("fp32", "onnxruntime", None, before, fp32["size_bytes"] / 1e6))
    chosen = next(c for c in int8["candidates"] if c["name"] == int8["chosen"])
    table = make_table("int8 as tried, against fp32", ("candidate", "runs in", kind, "CPU p50 ms", "MB"), rows)
    if before is None or chosen["seconds"] < fp32["seconds"]:
        return [table]
    times = chosen["seconds"] / fp32["seconds"]
    return [table, f"On this processor int8 takes {times:.2f} times as long as fp32: what it saves is memory alone."]


def _sensitivity(layers: Sequence[LayerSensitivity]) -> list[Any]:
    if not layers:
        return []
    rows = [(layer.module or layer.layer, layer.kind, layer.parameters, layer.error) for layer in layers]
    columns = ("layer", "kind", "parameters", "relative error")
    return [make_table("Outputs where that layer alone is in int8", columns, rows)]
