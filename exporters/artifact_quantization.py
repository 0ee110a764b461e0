"""quantize_onnx: an fp32 artifact as an int8 artifact, without the model it came from."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir

from edgefold.artifacts import MANIFEST, Artifact, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters.attention_choice import fuses_attention
from edgefold.exporters.calibration_batches import Batch
from edgefold.exporters.fused_attention import fuse_attention
from edgefold.exporters.graph_saving import save_graph
from edgefold.exporters.model_files import load_model
from edgefold.exporters.quantization import Quantization, check_quantization, quantize_model
from edgefold.staging import staged_folder


def quantize_onnx(
    artifact: Artifact | str | Path,
    out: str | Path,
    *,
    quantization: Quantization = "static",
    target: str = "cpu-x86",
    calibration: Iterable[Batch] | None = None,
    left_out: Sequence[str] = (),
    opset: int | None = None,
    lineage: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Artifact:
    """Copy an fp32 ONNX artifact and quantize the copy; arguments as of `export_onnx`.

    Args:
        left_out: names of nodes of the graph that stay in floating point.
        opset: to which the graph may be raised; else the newest in which int8 for the target is read. From 23 on
            attention is one operator.
        lineage: JSON-able facts to add to those of the fp32 artifact.

    Raises:
        InputError: not an fp32 ONNX artifact, unknown names, missing calibration or one that the model cannot read, or
            an output that exists.
    """
    source = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    if (source.format, source.precision) != ("onnx", "fp32"):
        raise InputError(f"{source.folder} holds {source.precision} {source.format}; quantize_onnx takes fp32 onnx.")
    if source.generation:
        raise InputError(
            f'{source.folder} generates text; export its model again with export_generator(..., precision="int8"), '
            "which measures what int8 costs there."
        )
    check_quantization(quantization, target, calibration)
    with staged_folder(out, overwrite) as folder:
        for name in source.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.folder / name, folder / name)
        (folder / MANIFEST).unlink(missing_ok=True)
        raised = _fuse(folder / source.model_file) if fuses_attention("int8", target, opset) else {}
        quantize_model(folder / source.model_file, quantization, target, list(calibration or []), left_out)
        write_artifact(
            folder,
            format="onnx",
            precision="int8",
            target=target,
            model_file=source.model_file,
            inputs=source.inputs,
            outputs=source.outputs,
            task=source.task,
            lineage={**source.lineage, **(lineage or {}), **raised, "quantization": quantization, **_named(left_out)},
        )
    return load_artifact(out)


def _named(left_out: Sequence[str]) -> dict[str, list[str]]:
    return {"left_out": list(left_out)} if left_out else {}


def _fuse(path: Path) -> dict[str, int]:
    """Attention as one operator in the graph at `path`; the opset that it then has."""
    model = onnx_ir.from_proto(load_model(path))
    if not fuse_attention(model):
        return {}
    opset = model.opset_imports[""]
    save_graph(model, path, opset)
    return {"opset": opset}
