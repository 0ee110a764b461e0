"""int8 for ONNX Runtime: one symmetric calibration, encoded for the target; only what pays is quantized.

Weights of MatMul and Gemm are quantized per output channel, their activations per tensor; products of two activations
(attention) and the outputs of products stay in floating point, because quantizing those cost the most accuracy. Look-up
tables are held in int8 per column and dequantized after the look-up.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from torch import Tensor

from edgefold.errors import InputError

Batch = Mapping[str, Tensor]
Quantization = Literal["static", "dynamic"]
PRODUCTS = ("MatMul", "Gemm")
SMALL_TABLE = 2**16
"""Look-up tables with fewer elements are not worth a node."""


@dataclass(frozen=True)
class Encoding:
    """How a target wants its integers."""

    activations: QuantType
    reduce_range: bool
    """Weights in 7 bits: x86 without VNNI adds pairs of u8 * s8 products in saturating 16 bits; 7 never fill them."""


TARGETS = {
    "cpu-x86": Encoding(QuantType.QUInt8, reduce_range=True),
    "cpu-arm": Encoding(QuantType.QInt8, reduce_range=False),
}


def check_quantization(method: str, target: str, calibration: object) -> None:
    """Refuse early an unknown method or target, and static quantization without calibration.

    Raises:
        InputError: what came and what is allowed.
    """
    for name, value, allowed in (("quantization", method, ("static", "dynamic")), ("target", target, tuple(TARGETS))):
        if value not in allowed:
            raise InputError(f"{name}={value!r} is not known; choose one of {', '.join(allowed)}.")
    if method == "static" and calibration is None:
        raise InputError(
            "Static int8 needs calibration=batches (a hundred real samples), or use quantization='dynamic'."
        )


def quantize_model(path: Path, method: Quantization, target: str, batches: Sequence[Batch]) -> None:
    """Quantize the model at `path`, in place.

    Raises:
        InputError: static quantization without batches, or a model without products to quantize.
    """
    model = onnx.load(path)
    nodes = _weight_products(model)
    if not nodes:
        raise InputError(
            "The model has no MatMul or Gemm with constant weights, so int8 has nothing to gain; use fp32."
        )
    encoding = TARGETS[target]
    quantized = path.with_name(f"{path.stem}.quantized{path.suffix}")
    logging.getLogger("root").setLevel(logging.ERROR)
    if method == "static":
        _quantize_static(path, quantized, nodes, encoding, batches)
    else:
        quantize_dynamic(
            path,
            quantized,
            op_types_to_quantize=list(PRODUCTS),
            nodes_to_quantize=nodes,
            per_channel=True,
            reduce_range=encoding.reduce_range,
            weight_type=QuantType.QInt8,
        )
    result = onnx.load(quantized)
    _quantize_tables(result)
    onnx.save(result, path)
    quantized.unlink()


def _quantize_static(source: Path, out: Path, nodes: list[str], encoding: Encoding, batches: Sequence[Batch]) -> None:
    if not batches:
        raise InputError("Static int8 needs at least one calibration batch; got none.")
    quantize_static(
        source,
        out,
        _Reader(batches, {value.name for value in onnx.load(source).graph.input}),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(PRODUCTS),
        nodes_to_quantize=nodes,
        per_channel=True,
        reduce_range=encoding.reduce_range,
        activation_type=encoding.activations,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": list(PRODUCTS),
        },
    )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Feeds batches as ONNX Runtime's calibrator wants them."""

    def __init__(self, batches: Sequence[Batch], names: set[str]) -> None:
        self._batches: Iterator[Batch] = iter(batches)
        self._names = names

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        return {name: value.cpu().numpy() for name, value in batch.items() if name in self._names}


def _weight_products(model: onnx.ModelProto) -> list[str]:
    """Names of the products whose second operand is a constant matrix."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in PRODUCTS and node.input[1] in constants]


def _quantize_tables(model: onnx.ModelProto) -> None:
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
