"""lower_opset: an opset-17 graph as opset 16, for TensorRT 8.5, which knows no LayerNormalization.

Of opset 17 only operators are new, none is changed (ONNX, Operator Changelog); LayerNormalization is the one among them
that networks are exported with. torch's exporter itself writes 17 and newer alone; asked for 16, it writes 18.
"""

from typing import Any

import numpy as np
import onnx_ir

from edgefold.errors import InputError

NEW_IN_17 = ("BlackmanWindow", "DFT", "HammingWindow", "HannWindow", "MelWeightMatrix", "SequenceMap", "STFT")


def lower_opset(model: onnx_ir.Model) -> None:
    """Take every LayerNormalization apart and call the graph opset 16, in place.

    Raises:
        InputError: the graph is of another opset than 17, or has one of its other new operators.
    """
    found = model.opset_imports.get("")
    if found != 17:
        raise InputError(f"The exporter wrote opset {found}; only 17 can be taken down to 16. Ask for opset=20.")
    for node in list(model.graph):
        if node.op_type in NEW_IN_17:
            raise InputError(f"{node.name} is a {node.op_type}, which opset 16 does not have; ask for opset=17.")
        if node.op_type == "LayerNormalization":
            _take_apart(model.graph, node)
    model.opset_imports[""] = 16


def _take_apart(graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
    """y = (x - mean) / sqrt(mean((x - mean)²) + ε) * scale + bias."""
    x, scale, *rest = node.inputs
    axis = node.attributes.get_int("axis", -1)
    if x is None or scale is None or x.shape is None or len(node.outputs) != 1:
        raise InputError(f"{node.name} cannot be taken apart for opset 16: its rank is not known; ask for opset=17.")
    axes = list(range(axis, 0) if axis < 0 else range(axis - len(x.shape), 0))
    epsilon = onnx_ir.tensor(
        np.array(node.attributes.get_float("epsilon", 1e-5), np.float32), name=f"{node.name}_epsilon"
    )
    constant = onnx_ir.Value(
        name=epsilon.name, shape=onnx_ir.Shape([]), type=onnx_ir.TensorType(epsilon.dtype), const_value=epsilon
    )
    graph.initializers.add(constant)
    means = {"axes": axes, "keepdims": 1}
    add = _Steps(graph, node)
    centred = add("Sub", x, add("ReduceMean", x, **means))
    variance = add("ReduceMean", add("Mul", centred, centred), **means)
    normalized = add("Div", centred, add("Sqrt", add("Add", variance, constant)))
    result = add("Mul", normalized, scale)
    for bias in rest:
        result = add("Add", result, bias) if bias is not None else result
    output = node.outputs[0]
    name, is_output = output.name, output.is_graph_output()
    output.replace_all_uses_with(result, replace_graph_outputs=is_output)
    result.shape = output.shape
    graph.remove(node, safe=True)
    result.name = name


class _Steps:
    """Nodes put before the one that they replace."""

    def __init__(self, graph: onnx_ir.Graph, node: onnx_ir.Node) -> None:
        self._graph = graph
        self._node = node
        self._count = 0

    def __call__(self, kind: str, *inputs: onnx_ir.Value, **attributes: Any) -> onnx_ir.Value:
        name = f"{self._node.name}_{self._count}_{kind}"
        step = onnx_ir.node(kind, inputs, attributes, name=name)
        output = step.outputs[0]
        output.name, output.dtype = name, onnx_ir.DataType.FLOAT
        self._graph.insert_before(self._node, step)
        self._count += 1
        return output
