"""Weights that the exporter left to be transposed in every run, as it does with those of several layers."""

from collections.abc import Sequence

import numpy as np
import onnx_ir
from onnx_ir import Node, Value


def store_transposed(model: onnx_ir.Model) -> int:
    """Transpose(W) -> W^T where W has no other reader than such nodes; returns how many weights were changed.

    int8 and MatMulNBits are for products whose second operand is constant. A tied embedding is looked up as well, and
    would be stored twice: it stays.
    """
    changed = 0
    for weight in list(model.graph.initializers.values()):
        nodes = [node for node, _ in weight.uses()]
        orders = {order for node in nodes if (order := _order(node)) is not None}
        if not nodes or len(orders) != 1 or any(_order(node) is None for node in nodes) or weight.is_graph_output():
            continue
        _store(model.graph, weight, nodes, orders.pop())
        changed += 1
    return changed


def _order(node: Node) -> tuple[int, ...] | None:
    """Of the axes, where it is a Transpose of this graph whose result is not handed out."""
    if node.op_type != "Transpose" or node.domain != "" or node.outputs[0].is_graph_output():
        return None
    return tuple(node.attributes.get_ints("perm", ())) or None


def _store(graph: onnx_ir.Graph, weight: Value, nodes: Sequence[Node], order: tuple[int, ...]) -> None:
    """One constant in place of the weight and of all of its transposed values, under the name of the first of these."""
    assert weight.const_value is not None
    values = np.ascontiguousarray(weight.const_value.numpy().transpose(order))
    tensor = onnx_ir.tensor(values, name=nodes[0].outputs[0].name)
    shape, kind = onnx_ir.Shape(values.shape), onnx_ir.TensorType(tensor.dtype)
    constant = Value(name=tensor.name, const_value=tensor, shape=shape, type=kind)
    for node in nodes:
        onnx_ir.convenience.replace_all_uses_with(node.outputs[0], constant)
        graph.remove(node, safe=True)
    del graph.initializers[str(weight.name)]
    graph.register_initializer(constant)
