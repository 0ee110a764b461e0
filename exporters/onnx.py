"""export_onnx: a folded student, or any module, as an artifact with an ONNX model that is proven equal to it."""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, cast

import onnx_ir
import torch
from torch import Tensor, nn
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes

from edgefold.artifacts import Artifact, TensorSpec, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters.cpu_graph import keep_layer_norms_apart
from edgefold.exporters.dynamic_shapes import (
    DynamicAxes,
    distinct_inputs,
    find_dynamic_axes,
    ragged_variants,
    shape_names,
    shared_dims,
)
from edgefold.exporters.optimum_layout import write_optimum_layout
from edgefold.exporters.parity import check_parity, largest_error
from edgefold.exporters.quantization import Quantization, check_quantization, quantize_model
from edgefold.key_value_caches import caches_off
from edgefold.staging import check_output_folder, staged_folder

Batch = Mapping[str, Tensor]
MODEL_FILE = "model.onnx"
MAX_IR_VERSION = 10
"""What the ONNX Runtime of JetPack 6 still reads."""
SINGLE_FILE_BYTES = 2**31 - 2**24
"""Above it protobuf needs the weights beside the graph."""


def export_onnx(
    model: nn.Module,
    inputs: Batch,
    out: str | Path,
    *,
    precision: Literal["fp32", "int8"] = "fp32",
    target: str = "cpu-x86",
    calibration: Iterable[Batch] | None = None,
    quantization: Quantization = "static",
    tokenizer: Any = None,
    task: str | None = None,
    lineage: dict[str, Any] | None = None,
    opset: int = 20,
    tolerance: float = 1e-4,
    overwrite: bool = False,
) -> Artifact:
    """Export, check against torch, and write an artifact that optimum opens too.

    The fp32 graph is run in ONNX Runtime on ragged batches (other batch and sequence sizes than the example's) and must
    agree with torch within `tolerance`; only then is it quantized or handed out. What quantization costs is recorded in
    `lineage["parity"]`, not gated: its price is the task's, and is paid in accuracy.

    Args:
        inputs: example keyword tensors of forward, labels left out.
        precision: "int8" quantizes weights and, where `quantization` is "static", activations.
        target: "cpu-x86" or "cpu-arm"; decides the encoding of int8.
        calibration: batches for static int8; a hundred real samples will do.
        tokenizer: anything with `save_pretrained`, or a folder whose tokenizer files are copied.
        tolerance: largest absolute difference between ONNX Runtime and torch.

    Raises:
        InputError: an unfolded student, unknown names, missing calibration, an output that exists, a model that
            cannot be exported.
        GateError: the exported graph does not compute what torch computes.
    """
    _check(model, precision, target, quantization, calibration)
    check_output_folder(out, overwrite)
    axes = find_dynamic_axes(inputs)
    examples = distinct_inputs(inputs, axes)
    with caches_off(model), _prepared(model), staged_folder(out, overwrite) as folder:
        path = folder / MODEL_FILE
        graph = _convert(model, examples, axes, opset)
        _name_dimensions(graph, axes)
        keep_layer_norms_apart(graph)
        _save(graph, path, opset)
        parity = {"fp32": check_parity(model, path, ragged_variants(examples, axes), tolerance)}
        specs = _read_specs(path)
        if precision == "int8":
            quantize_model(path, quantization, target, list(calibration or []))
            parity["int8"] = largest_error(model, path, ragged_variants(examples, axes))
        write_optimum_layout(folder, model, tokenizer)
        write_artifact(
            folder,
            format="onnx",
            precision=precision,
            target=target,
            model_file=MODEL_FILE,
            inputs=specs[0],
            outputs=specs[1],
            task=task,
            lineage={
                **(lineage or {}),
                "parity": parity,
                "opset": opset,
                "quantization": quantization if precision == "int8" else None,
                "versions": {name: version(name) for name in ("edgefold", "torch", "onnx", "onnxruntime")},
            },
        )
    return load_artifact(out)


def _check(
    model: nn.Module, precision: str, target: str, quantization: str, calibration: Iterable[Batch] | None
) -> None:
    """Refuse early what cannot end well."""
    if getattr(model, "edgefold_unfolded", False):
        raise InputError(
            "This student still composes its weights in every forward pass; call edgefold.fold(student) first."
        )
    for name, parameter in model.named_parameters():
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
            raise InputError(
                f"{name} is {parameter.dtype} on {parameter.device}; exporting starts from float32 on the CPU: call "
                "model.float().cpu() first."
            )
    if precision not in ("fp32", "int8"):
        raise InputError(f"precision={precision!r} is not known; choose one of fp32, int8.")
    check_quantization(quantization, target, calibration if precision == "int8" else ())


@contextmanager
def _prepared(model: nn.Module) -> Iterator[None]:
    """Evaluation mode on the CPU and eager attention (a leaner graph), as it was afterwards."""
    training = model.training
    implementation = getattr(getattr(model, "config", None), "_attn_implementation", None)
    switch: Callable[[str], None] | None = getattr(model, "set_attn_implementation", None)
    model.eval()
    if implementation and switch:
        switch("eager")
    try:
        yield
    finally:
        model.train(training)
        if implementation and switch:
            switch(implementation)


def _convert(model: nn.Module, examples: Batch, axes: DynamicAxes, opset: int) -> onnx_ir.Model:
    """The graph, with shared dynamic dimensions; bounds that the trace finds (of a position table) are kept."""
    is_hugging_face = hasattr(model, "config") and hasattr(model, "save_pretrained")
    convert = _convert_hugging_face if is_hugging_face else _convert_module
    shapes: Any = shared_dims(axes)
    for attempts_left in (1, 0):
        try:
            with torch.no_grad(), warnings.catch_warnings(), _quiet():
                warnings.simplefilter("ignore")
                return convert(model, examples, shapes, opset)
        except Exception as error:
            if not attempts_left or "Suggested fixes:" not in str(error):
                raise InputError(
                    f"{type(model).__name__} cannot be exported to ONNX: {str(error).strip().splitlines()[0]}"
                ) from error
            head, _, fixes = str(error).partition("Suggested fixes:\n")
            told = f"{head}Suggested fixes:\n" + fixes.split("\n\n")[0]
            shapes = refine_dynamic_shapes_from_suggested_fixes(told, shapes)
    raise AssertionError("the loop returns or raises")


def _convert_module(model: nn.Module, examples: Batch, shapes: Any, opset: int) -> onnx_ir.Model:
    program = torch.onnx.export(
        model, (), kwargs=dict(examples), dynamic_shapes=shapes, opset_version=opset, dynamo=True, verbose=False
    )
    assert program is not None
    _name_outputs(program.model)
    return program.model


def _convert_hugging_face(model: Any, examples: Batch, shapes: Any, opset: int) -> onnx_ir.Model:
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    exporter: Any = OnnxExporter
    config = OnnxConfig(dynamic=True, dynamic_shapes=shapes, opset_version=opset)
    program, _ = exporter().export_program(model, dict(examples), config)
    return cast(onnx_ir.Model, program)


def _name_outputs(model: onnx_ir.Model) -> None:
    """Outputs of plain modules are called output, or output_0, output_1, ..., never like an operator."""
    outputs = model.graph.outputs
    for index, value in enumerate(outputs):
        value.name = "output" if len(outputs) == 1 else f"output_{index}"


def _name_dimensions(model: onnx_ir.Model, axes: DynamicAxes) -> None:
    """Call the dynamic dimensions of all values by their labels instead of the trace's symbols."""
    labels: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, label in axes.get(str(value.name), {}).items():
            symbol = value.shape[axis] if value.shape is not None else None
            if isinstance(symbol, onnx_ir.SymbolicDim) and symbol.value:
                labels[symbol.value] = label
    values = [*model.graph.inputs, *(output for node in model.graph.all_nodes() for output in node.outputs)]
    for value in values:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, onnx_ir.SymbolicDim) and size.value in labels and value.shape is not None:
                value.shape[axis] = onnx_ir.SymbolicDim(labels[size.value])


def _save(model: onnx_ir.Model, path: Path, opset: int) -> None:
    """One file below 2 GB, weights beside it above; the opset and IR version asserted."""
    found = model.opset_imports.get("")
    if found != opset:
        raise InputError(f"The exporter wrote opset {found} where {opset} was asked for; ask for opset={found} or 20.")
    model.ir_version = min(model.ir_version or MAX_IR_VERSION, MAX_IR_VERSION)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    onnx_ir.save(model, str(path), external_data=f"{path.name}_data" if size > SINGLE_FILE_BYTES else None)


def _read_specs(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    graph = onnx_ir.load(path).graph
    return tuple(  # type: ignore[return-value]
        [
            TensorSpec(
                name=str(value.name),
                dtype=value.dtype.numpy().name if value.dtype else "float32",
                shape=shape_names([size if isinstance(size, int) else size.value for size in value.shape or ()]),
            )
            for value in values
        ]
        for values in (graph.inputs, graph.outputs)
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' own log lines below errors, and without what they print."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "torch.export", "transformers.exporters")
    ]
    levels = [copy.copy(logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
