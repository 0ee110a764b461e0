"""Weights alone in 4 or 8 bits, for language models: a step of generation reads every weight once and computes little.

Each block of `BLOCK_SIZE` weights along a column has a scale and a zero point of its own: w ≈ s (q - z), rounded to the
nearest (MatMulNBits of ONNX Runtime). Look-up tables are held in int8 per column. Beside 4 bits, a product that is an
output of the graph, as the head of a language model is, has 8. What each costs: tests/benchmarks/bench_precisions.py.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from edgefold.errors import InputError
from edgefold.exporters.model_files import load_model
from edgefold.exporters.quantization import quantize_tables, weight_products, without_advice

BLOCK_SIZE = 32
INT8_ACTIVATIONS = 4
"""The accuracy level at which activations are rounded to int8 for each block, which is what makes it fast on a CPU."""


def quantize_weights(path: Path, bits: int) -> None:
    """Quantize the weights of the model at `path` to that many bits, in place.

    Raises:
        InputError: it has no products with constant weights.
    """
    model = load_model(path)
    _transpose_constants(model)
    if not weight_products(model, ("MatMul",)):
        raise InputError(
            f"The model has no MatMul with constant weights, so weights in {bits} bits have nothing to gain; use fp32."
        )
    outputs = {value.name for value in model.graph.output}
    heads = [node.name for node in model.graph.node if node.op_type == "MatMul" and node.output[0] in outputs]
    model = _quantize_products(model, bits, heads)
    model = _quantize_products(model, 8, [])  # the heads are left
    quantize_tables(model)
    onnx.save(model, path)
    path.with_name(f"{path.name}_data").unlink(missing_ok=True)


def _quantize_products(model: onnx.ModelProto, bits: int, left_out: list[str]) -> onnx.ModelProto:
    with without_advice():  # the import configures the root logger
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
    with without_advice():
        quantizer = MatMulNBitsQuantizer(
            model, bits=bits, block_size=BLOCK_SIZE, accuracy_level=INT8_ACTIVATIONS, nodes_to_exclude=left_out
        )
        quantizer.process()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _transpose_constants(model: onnx.ModelProto) -> None:
    """MatMul(x, Transpose(W)) -> MatMul(x, Wᵀ): a tied embedding is then a table and a weight, each quantized."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    transposed = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Transpose" and node.input[0] in constants and len(constants[node.input[0]].dims) == 2
    }
    for node in graph.node:
        source = transposed.pop(node.input[1], None) if node.op_type == "MatMul" else None
        if source is not None:
            value = np.ascontiguousarray(numpy_helper.to_array(constants[source.input[0]]).T)
            graph.initializer.append(numpy_helper.from_array(value, source.output[0]))
            graph.node.remove(source)
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in used]:
        graph.initializer.remove(tensor)
