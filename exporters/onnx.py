"""export_onnx: a folded student, or any module, as an artifact with an ONNX model that is proven equal to it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import onnx_ir
import torch
from torch import Tensor, nn
from torch.export.dynamic_shapes import refine_dynamic_shapes_from_suggested_fixes
from torch.torch_version import TorchVersion

from edgefold.artifacts import Artifact, Precision, load_artifact, write_artifact
from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.exporters.attention_choice import fuses_attention
from edgefold.exporters.dynamic_shapes import (
    DynamicAxes,
    check_dynamic_axes,
    distinct_inputs,
    find_dynamic_axes,
    longest_rows,
    ragged_variants,
    shared_dims,
    without_fixed,
)
from edgefold.exporters.fused_attention import ATTENTION_OPSET, fuse_attention
from edgefold.exporters.graph_names import name_dimensions
from edgefold.exporters.graph_passes import pass_over
from edgefold.exporters.graph_saving import SINGLE_FILE_BYTES, read_specs, save_graph
from edgefold.exporters.grouped_products import translations
from edgefold.exporters.half_precision import halve_model
from edgefold.exporters.older_opsets import lower_opset
from edgefold.exporters.onnx_tracing import for_onnx
from edgefold.exporters.optimum_layout import write_optimum_layout
from edgefold.exporters.parity import check_half, check_parity, largest_error
from edgefold.exporters.precisions import BITS, check_precision
from edgefold.exporters.preparation import check_exportable, prepared, zero_shares
from edgefold.exporters.quantization import Quantization, check_quantization, quantize_model
from edgefold.exporters.targets import TORCH_OPSET, choose_opset
from edgefold.exporters.versions import exporting_versions
from edgefold.exporters.weight_quantization import quantize_weights
from edgefold.masks.checks import check_nm
from edgefold.masks.steps import NM
from edgefold.masks.targets import find_masked
from edgefold.staging import check_output_folder, staged_folder
from edgefold.tracing.key_value_caches import caches_off
from edgefold.tracing.quiet_tracing import first_cause

Batch = Mapping[str, Tensor]
MODEL_FILE = "model.onnx"
BOUNDED, FIXES = "Constraints violated", "Suggested fixes:"
"""What torch.export says of sizes that it cannot hold for all, and of how to name those that it can."""
LONGER = 4
"""Tokens of a row, where a model does something else with fewer."""


def export_onnx(
    model: nn.Module,
    inputs: Batch,
    out: str | Path,
    *,
    precision: Precision = "fp32",
    target: str = "cpu-x86",
    calibration: Iterable[Batch] | None = None,
    quantization: Quantization = "static",
    tokenizer: Any = None,
    task: str | None = None,
    lineage: dict[str, Any] | None = None,
    opset: int | None = None,
    dynamic_axes: DynamicAxes | None = None,
    tolerance: float = 1e-4,
    half_tolerance: float = 1e-2,
    single_file_bytes: int = SINGLE_FILE_BYTES,
    overwrite: bool = False,
) -> Artifact:
    """Export, check against torch, and write an artifact that optimum opens too.

    The fp32 graph is run in ONNX Runtime on ragged batches (other batch and sequence sizes than the example's) and must
    agree with torch within `tolerance`; only then is it converted or handed out. fp16 is compared once more; what
    quantization costs is recorded in `lineage["parity"]`, not gated: its price is the task's, and is paid in accuracy.

    Args:
        inputs: example keyword tensors of forward, labels left out.
        precision: "fp16" keeps sensitive operators in fp32 and lists them in `lineage["kept_fp32"]`; "int8" quantizes
            weights and activations, "weight-int8" and "int4" weights alone.
        target: one of `edgefold.exporters.targets.TARGETS`; decides the opset and the encoding of int8.
        calibration: batches for static int8; a hundred real samples will do.
        tokenizer: anything with `save_pretrained`, or a folder whose tokenizer files are copied.
        lineage: JSON-able facts of the student's making; where they hold a `plan` with N:M sparsity, as those that
            `edgefold compress` saves do, the weights are checked to have it.
        opset: else the newest that the target reads; 16 (without LayerNormalization) is the oldest. From 23 on, and
            in int8 for x86 if none is asked for, attention is one operator: faster in ONNX Runtime, which reads it
            from 1.24 on. 20 keeps it apart.
        dynamic_axes: name of each input -> axis -> name of its size, as in `{"audio": {0: "batch", 1: "samples"}}`;
            else the first axis is "batch", and the second of a matrix of whole numbers "sequence", if the model runs
            at other lengths.
        tolerance: largest difference between ONNX Runtime and torch in fp32, in units of the largest output. If it is
            above 0, four times what torch's own rounding makes of the model is allowed as well.
        half_tolerance: the same of fp16.
        single_file_bytes: more weights than this are written beside the graph, in `model.onnx_data`.

    Raises:
        InputError: an unfolded student, unknown names, missing calibration, an output that exists, weights without
            their N:M pattern, a model that cannot be exported.
        GateError: the exported graph does not compute what torch computes, in fp32 or in fp16.
    """
    _check(model, precision, target, quantization, calibration)
    fuses = fuses_attention(precision, target, opset)
    opset = choose_opset(target, opset)
    _check_sparsity(model, inputs, lineage or {})
    check_output_folder(out, overwrite)
    axes = find_dynamic_axes(inputs) if dynamic_axes is None else dynamic_axes
    check_dynamic_axes(inputs, axes)
    examples = distinct_inputs(inputs, axes)
    with caches_off(model), prepared(model), staged_folder(out, overwrite) as folder:
        path = folder / MODEL_FILE
        axes = without_fixed(model, examples, axes) if dynamic_axes is None else axes
        graph = _convert(model, examples, axes, max(opset, TORCH_OPSET))
        name_dimensions(graph, axes)
        pass_over(graph)
        if opset < TORCH_OPSET:
            lower_opset(graph)
        if fuses and fuse_attention(graph):
            opset = max(opset, ATTENTION_OPSET)
        save_graph(graph, path, opset, single_file_bytes)
        parity = {"fp32": check_parity(model, path, ragged_variants(examples, axes), tolerance)}
        specs = read_specs(graph)
        kept = None
        if precision == "fp16":
            kept = halve_model(path, single_file_bytes).kept
            parity["fp16"] = check_half(model, path, ragged_variants(examples, axes), half_tolerance)
        elif precision != "fp32":
            if precision == "int8":
                quantize_model(path, quantization, target, list(calibration or []))
            else:
                quantize_weights(path, BITS[precision])
            parity[precision] = largest_error(model, path, ragged_variants(examples, axes))
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
                "sparsity": zero_shares(model),
                "quantization": quantization if precision == "int8" else None,
                **({"kept_fp32": kept} if kept is not None else {}),
                "versions": exporting_versions(),
            },
        )
    return load_artifact(out)


def _check(
    model: nn.Module, precision: str, target: str, quantization: str, calibration: Iterable[Batch] | None
) -> None:
    """Refuse early what cannot end well."""
    check_exportable(model)
    check_precision(precision, target)
    if precision == "int8":
        check_quantization(quantization, target, calibration)


def _check_sparsity(model: nn.Module, inputs: Batch, lineage: Mapping[str, Any]) -> None:
    """Whether the weights have the N:M patterns that the plan promises."""
    steps = [NM(**step["nm"]) for step in lineage.get("plan") or () if "nm" in step]
    for matrix in find_masked(model, trace(model, inputs), steps) if steps else ():
        weight = model.get_parameter(matrix.parameter).movedim(matrix.axis, 1)
        step = cast(NM, matrix.step)
        check_nm({matrix.parameter: weight}, step.n, step.m)


def _convert(model: nn.Module, examples: Batch, axes: DynamicAxes, opset: int) -> onnx_ir.Model:
    """The graph, with shared dynamic dimensions, and the bounds of them that are known or that the trace finds.

    A model that would be another one for very short rows is traced for longer ones; the check of parity tries both.
    """
    is_hugging_face = hasattr(model, "config") and hasattr(model, "save_pretrained")
    convert = _convert_hugging_face if is_hugging_face else _convert_module
    longest = longest_rows(model, examples, axes)
    shapes: Any = shared_dims(axes, longest=longest)
    is_longer = False
    for attempts_left in (3, 2, 1, 0):
        try:
            with for_onnx():
                return convert(model, examples, shapes, opset)
        except Exception as error:
            told = str(error)
            if attempts_left and FIXES in told:
                head, _, fixes = told.partition(f"{FIXES}\n")
                fixed = f"{head}{FIXES}\n" + fixes.split("\n\n")[0]
                shapes = refine_dynamic_shapes_from_suggested_fixes(fixed, shapes)
            elif attempts_left and BOUNDED in told and not is_longer:
                shapes, is_longer = shared_dims(axes, LONGER, longest), True
            else:
                raise InputError(f"{type(model).__name__} cannot be exported to ONNX: {first_cause(error)}") from error
    raise AssertionError("the loop returns or raises")


def _convert_module(model: nn.Module, examples: Batch, shapes: Any, opset: int) -> onnx_ir.Model:
    program = torch.onnx.export(
        model,
        (),
        kwargs=dict(examples),
        dynamic_shapes=shapes,
        opset_version=opset,
        custom_translation_table=translations(model),
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    _name_outputs(program.model)
    return program.model


def _convert_hugging_face(model: Any, examples: Batch, shapes: Any, opset: int) -> onnx_ir.Model:
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_onnx import OnnxExporter

    exporter: Any = OnnxExporter
    config = OnnxConfig(
        dynamic=True,
        dynamic_shapes=shapes,
        opset_version=opset,
        # torch 2.11 does not see that min(8 n, 16 n) is 8 n; what stays unproven is compared at other sizes afterwards
        prefer_deferred_runtime_asserts_over_guards=TorchVersion(torch.__version__) < "2.12",
    )
    if hasattr(exporter, "export_program"):  # transformers 5.23 and later
        program, _ = exporter().export_program(model, dict(examples), config)
        return cast(onnx_ir.Model, program)
    return cast(onnx_ir.Model, exporter().export(model, dict(examples), config).model)


def _name_outputs(model: onnx_ir.Model) -> None:
    """Outputs of plain modules are called output, or output_0, output_1, ..., never like an operator."""
    outputs = model.graph.outputs
    for index, value in enumerate(outputs):
        value.name = "output" if len(outputs) == 1 else f"output_{index}"
