"""int8: one symmetric calibration, encoded as the target wants it; only what pays is quantized.

Weights of MatMul, Gemm, Conv and LSTM are quantized per output channel, their activations per tensor; products of two
activations (attention) and the outputs of MatMul and Gemm stay in floating point, because quantizing those cost the
most accuracy. Look-up tables are held in int8 per column and dequantized after the look-up. For OpenVINO it is NNCF
that quantizes (`openvino_quantization`).
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from edgefold.errors import InputError
from edgefold.exporters.calibration_batches import Batch, CalibrationBatches
from edgefold.exporters.flat_products import flatten_products
from edgefold.exporters.graph_saving import write_graph
from edgefold.exporters.model_files import load_model
from edgefold.exporters.targets import Target, find_target
from edgefold.openvino_modules import can_quantize

Quantization = Literal["static", "dynamic"]
METHODS = ("static", "dynamic")
PRODUCTS = ("MatMul", "Gemm")
KINDS = {"static": (*PRODUCTS, "Conv"), "dynamic": (*PRODUCTS, "LSTM")}
"""What each method quantizes. An LSTM with scales found at run time takes half of the time; ONNX Runtime has no such
GRU. A Conv gains only from a quantized output (1.5 times as fast, against 0.7 times with a
floating-point one), and takes four times as long when its input is quantized at run time."""
SMALL_TABLE = 2**16
"""Look-up tables with fewer elements are not worth a node."""


def check_quantization(method: str, target: str, calibration: object) -> None:
    """Refuse early an unknown method or target, one with the other, static quantization without calibration, and
    int8 for OpenVINO where NNCF is missing.

    Raises:
        InputError: what came and what is allowed.
    """
    if method not in METHODS:
        raise InputError(f"quantization={method!r} is not known; choose one of {', '.join(METHODS)}.")
    if find_target(target).is_tensorrt and method == "dynamic":
        raise InputError(
            f"{target} reads no int8 with scales found at run time (DynamicQuantizeLinear); use quantization='static'."
        )
    if find_target(target).is_openvino:
        _check_openvino(target, method)
    if method == "static" and calibration is None:
        raise InputError(
            "Static int8 needs calibration=batches (a hundred real samples), or use quantization='dynamic'."
        )


def _check_openvino(target: str, method: str) -> None:
    if method == "dynamic":
        raise InputError(
            f"{target} computes int8 with scales found at run time slower than fp32; use quantization='static', or for "
            "a model that generates text weight-int8 or int4."
        )
    if not can_quantize():
        raise InputError(f"int8 for {target} is made by NNCF, which is not here: pip install 'edgefold[openvino-int8]'")


def quantize_model(
    path: Path, method: Quantization, target: str, batches: Sequence[Batch], left_out: Sequence[str] = ()
) -> None:
    """Quantize the model at `path`, in place.

    Args:
        left_out: names of nodes that stay in floating point.

    Raises:
        InputError: static quantization without batches or with incomplete ones, or a model without products to
            quantize.
    """
    encoding = find_target(target)
    if method == "static" and not (encoding.is_tensorrt or encoding.is_openvino):
        _flatten(path)
    model = load_model(path)
    nodes = [name for name in weight_products(model, KINDS[method]) if name not in left_out]
    if not nodes:
        *most, last = KINDS[method]
        raise InputError(
            f"The model has no {', '.join(most)} or {last} with constant weights, so {method} int8 has nothing to "
            "gain; use fp32."
        )
    quantized = path.with_name(f"{path.stem}.quantized{path.suffix}")
    with without_advice():
        if encoding.is_openvino:
            from edgefold.exporters.openvino_quantization import quantize_for_openvino  # nncf is an extra

            quantize_for_openvino(path, quantized, batches, left_out)
        elif method == "static":
            _quantize_static(path, quantized, nodes, encoding, CalibrationBatches(batches, model))
        else:
            _quantize_dynamic(path, quantized, nodes, encoding)
    result = onnx.load(quantized)
    if encoding.unsigned:
        shift_to_unsigned(result)
    if not encoding.is_tensorrt:
        quantize_tables(result)
    onnx.save(result, path)
    quantized.unlink()
    path.with_name(f"{path.name}_data").unlink(missing_ok=True)


def _flatten(path: Path) -> None:
    """Products with their biases as one operator each, so that both are of integers."""
    model = onnx_ir.from_proto(load_model(path))
    if flatten_products(model):
        write_graph(model, path)


def quantize_static_nodes(source: Path, out: Path, nodes: list[str], target: Target, batches: Sequence[Batch]) -> None:
    """Those nodes of `source` with s8 operands but for their biases, nothing else changed, as `out`."""
    without_biases = replace(target, is_tensorrt=True)
    with without_advice():
        _quantize_static(source, out, nodes, without_biases, CalibrationBatches(batches, load_model(source)))


def _quantize_dynamic(source: Path, out: Path, nodes: list[str], encoding: Target) -> None:
    quantize_dynamic(
        source,
        out,
        op_types_to_quantize=list(KINDS["dynamic"]),
        nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],  # what it makes of a Gemm bears that name
        per_channel=True,
        reduce_range=encoding.weight_bits == 7,
        weight_type=QuantType.QInt8,
    )


def _quantize_static(source: Path, out: Path, nodes: list[str], encoding: Target, reader: CalibrationBatches) -> None:
    quantize_static(
        source,
        out,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(KINDS["static"]),
        nodes_to_quantize=nodes,
        per_channel=True,
        reduce_range=encoding.weight_bits == 7,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
            "QuantizeBias": not encoding.is_tensorrt,  # its DequantizeLinear takes no int32
        },
    )


def shift_to_unsigned(model: onnx.ModelProto) -> None:
    """Activations of s8 about 0 as u8 about 128, in place: q + 128 for q, of the same grid and the same ends."""
    activations = [node for node in model.graph.node if node.op_type == "QuantizeLinear"]
    points = {node.input[2] for node in activations}
    for tensor in model.graph.initializer:
        if tensor.name in points:
            shifted = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(shifted.astype(np.uint8), tensor.name))
    quantized = {node.output[0] for node in activations}
    for value in model.graph.value_info:
        if value.name in quantized:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8


@contextmanager
def without_advice() -> Iterator[None]:
    """ONNX Runtime's quantizer gives advice through the root logger; its errors still pass."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers


def weight_products(model: onnx.ModelProto, kinds: Sequence[str]) -> list[str]:
    """Names of the products of those kinds whose second operand is constant."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in kinds and node.input[1] in constants]


def quantize_tables(model: onnx.ModelProto) -> None:
    """Gather(W, ids) -> DequantizeLinear(Gather(W_int8, ids)), one scale for each column of W."""
    graph = model.graph
    tables = {tensor.name: tensor for tensor in graph.initializer}
    uses: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    rewritten: list[onnx.NodeProto] = []
    for node in graph.node:
        rewritten.append(node)
        table = tables.get(node.input[0]) if node.op_type == "Gather" else None
        if table is None or uses[table.name] > 1 or not _is_large_table(table) or _axis(node) != 0:
            continue
        rewritten.append(_quantize_table(graph, node, table))
    del graph.node[:]
    graph.node.extend(rewritten)


def _quantize_table(graph: onnx.GraphProto, node: onnx.NodeProto, table: onnx.TensorProto) -> onnx.NodeProto:
    """Replace one table; returns the node that dequantizes what is looked up."""
    weights = numpy_helper.to_array(table)
    scale = np.maximum(np.abs(weights).max(axis=0), 1e-12).astype(np.float32) / 127
    integers = np.clip(np.rint(weights / scale), -127, 127).astype(np.int8)
    zero = np.zeros(len(scale), np.int8)
    graph.initializer.remove(table)
    names = {part: f"{table.name}_{part}" for part in ("int8", "scale", "zero_point")}
    for part, value in (("int8", integers), ("scale", scale), ("zero_point", zero)):
        graph.initializer.append(numpy_helper.from_array(value, names[part]))
    output = node.output[0]
    node.input[0] = names["int8"]
    node.output[0] = f"{output}_int8"
    return helper.make_node(
        "DequantizeLinear",
        [node.output[0], names["scale"], names["zero_point"]],
        [output],
        name=f"{node.name}_dequantize",
        axis=-1,
    )


def _is_large_table(table: onnx.TensorProto) -> bool:
    is_matrix = table.data_type == onnx.TensorProto.FLOAT and len(table.dims) == 2
    return is_matrix and int(np.prod(table.dims)) >= SMALL_TABLE


def _axis(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
