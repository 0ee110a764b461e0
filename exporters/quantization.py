"""int8 for ONNX Runtime: one symmetric calibration, encoded for the target; only what pays is quantized.

Weights of MatMul, Gemm and Conv are quantized per output channel, their activations per tensor; products of two
activations (attention) and the outputs of MatMul and Gemm stay in floating point, because quantizing those cost the
most accuracy. Look-up tables are held in int8 per column and dequantized after the look-up.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
KINDS = {"static": (*PRODUCTS, "Conv"), "dynamic": PRODUCTS}
"""What each method quantizes. A Conv gains only from a quantized output (1.5 times as fast, against 0.7 times with a
floating-point one), and takes four times as long when its input is quantized at run time."""
SMALL_TABLE = 2**16
"""Look-up tables with fewer elements are not worth a node."""


@dataclass(frozen=True)
class Encoding:
    """How a target wants its integers."""

    activations: QuantType
    reduce_range: bool
    """Weights in 7 bits: x86 without VNNI adds pairs of u8 * s8 products in saturating 16 bits; 7 never fill them.

    With 8 bits a dynamic BERT classifier fell from 84.8 % to chance on AVX2; 7 bits cost no time and no accuracy there.
    """


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
        InputError: static quantization without batches or with incomplete ones, or a model without products to
            quantize.
    """
    model = onnx.load(path)
    nodes = _weight_products(model, KINDS[method])
    if not nodes:
        raise InputError(
            f"The model has no {' or '.join(KINDS[method])} with constant weights, so {method} int8 has nothing to "
            "gain; use fp32."
        )
    encoding = TARGETS[target]
    quantized = path.with_name(f"{path.stem}.quantized{path.suffix}")
    with _without_advice():
        if method == "static":
            _quantize_static(path, quantized, nodes, encoding, _Reader(batches, [v.name for v in model.graph.input]))
        else:
            _quantize_dynamic(path, quantized, nodes, encoding)
    result = onnx.load(quantized)
    _quantize_tables(result)
    onnx.save(result, path)
    quantized.unlink()
    path.with_name(f"{path.name}_data").unlink(missing_ok=True)


def _quantize_dynamic(source: Path, out: Path, nodes: list[str], encoding: Encoding) -> None:
    quantize_dynamic(
        source,
        out,
        op_types_to_quantize=list(KINDS["dynamic"]),
        nodes_to_quantize=[*nodes, *(f"{name}_MatMul" for name in nodes)],  # what it makes of a Gemm bears that name
        per_channel=True,
        reduce_range=encoding.reduce_range,
        weight_type=QuantType.QInt8,
    )


def _quantize_static(source: Path, out: Path, nodes: list[str], encoding: Encoding, reader: "_Reader") -> None:
    quantize_static(
        source,
        out,
        reader,
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(KINDS["static"]),
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
    """Feeds batches as ONNX Runtime's calibrator wants them: the model's inputs alone."""

    def __init__(self, batches: Sequence[Batch], names: Sequence[str]) -> None:
        if not batches:
            raise InputError("Static int8 needs at least one calibration batch; got none.")
        for index, batch in enumerate(batches):
            if missing := [name for name in names if name not in batch]:
                raise InputError(
                    f"Calibration batch {index} has {', '.join(batch)} and lacks {', '.join(missing)}; "
                    "give every input of the model."
                )
        self._batches: Iterator[Batch] = iter(batches)
        self._names = names

    def get_next(self) -> dict[str, Any] | None:
        batch = next(self._batches, None)
        return None if batch is None else {name: batch[name].cpu().numpy() for name in self._names}


@contextmanager
def _without_advice() -> Iterator[None]:
    """ONNX Runtime's quantizer gives advice through the root logger; its errors still pass."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _weight_products(model: onnx.ModelProto, kinds: Sequence[str]) -> list[str]:
    """Names of the products of those kinds whose second operand is constant."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in kinds and node.input[1] in constants]


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
