"""A graph rewrite for static int8 on CPUs: a product with its bias as one Gemm of all rows.

ONNX Runtime quantizes MatMul and leaves the Add after it to floating point; Gemm takes both into one kernel of
integers. In a third-width MiniLM those additions take a tenth of a run.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir
from onnx_ir import DataType, Node, TensorType, Value
from onnx_ir.passes.common import RemoveUnusedNodesPass

ELEMENTWISE = ("Gelu", "Relu", "Sigmoid", "Tanh")
"""What stands between two such products and may be computed of rows as well."""
Size = int | str | None


@dataclass(frozen=True)
class _Linear:
    """x W + b for x: (..., n), W: (n, m) and b: (m,)."""

    product: Node
    addition: Node
    weight: Value
    bias: Value


def flatten_products(model: onnx_ir.Model) -> int:
    """x W + b -> Reshape(Gemm(Flatten(x), W, b)), in place; returns how many were rewritten.

    x has three axes or more and sizes that the graph tells, W and b are constants. A Gemm has the name of its product.
    """
    found = [linear for node in model.graph if (linear := _match(node)) is not None]
    rows = _Rows(model.graph)
    for linear in found:
        rows.rewrite(linear)
    if found:
        RemoveUnusedNodesPass()(model)
    return len(found)


def _match(product: Node) -> _Linear | None:
    """The product, if it is one of a tensor and a constant matrix, and read by an Add of a constant vector alone."""
    readers = [reader for reader, _ in product.outputs[0].uses()]
    if (product.op_type, product.domain) != ("MatMul", "") or len(readers) != 1 or product.outputs[0].is_graph_output():
        return None
    (addition,), (x, weight) = readers, product.inputs
    if (addition.op_type, addition.domain) != ("Add", "") or x is None or weight is None:
        return None
    bias = next((value for value in addition.inputs if value is not product.outputs[0]), None)
    matrix = _sizes(weight)
    is_constant = bias is not None and weight.const_value is not None and bias.const_value is not None
    if bias is None or not is_constant or len(matrix) != 2 or _sizes(bias) != matrix[1:]:
        return None
    sizes = _sizes(x)
    is_tensor = x.dtype == DataType.FLOAT and len(sizes) > 2 and None not in sizes
    return _Linear(product, addition, weight, bias) if is_tensor else None


class _Rows:
    """Values as matrices of rows, and the shapes that they had; each is made once."""

    def __init__(self, graph: onnx_ir.Graph) -> None:
        self._graph = graph
        self._flat: dict[Value, Value] = {}
        self._shapes: dict[tuple[Size, ...], Value] = {}

    def rewrite(self, linear: _Linear) -> None:
        product, addition, before = linear.product, linear.addition, linear.addition.outputs[0]
        x, width = product.inputs[0], _sizes(linear.weight)[1]
        assert x is not None
        rows = self._flatten(x, product)
        shape = self._shape(x, width, product)
        name, called = str(product.name), str(before.name)
        product.name, before.name = f"{name}_apart", f"{called}_apart"
        gemm = onnx_ir.node("Gemm", [rows, linear.weight, linear.bias], name=name)
        gemm.metadata_props.update(product.metadata_props)
        flat = self._put(gemm, f"{called}_rows", addition, (None, width))
        back = self._put(onnx_ir.node("Reshape", [flat, shape]), called, addition, (*_sizes(x)[:-1], width))
        onnx_ir.convenience.replace_all_uses_with(before, back, replace_graph_outputs=True)
        self._flat[back] = flat

    def _flatten(self, x: Value, before: Node) -> Value:
        """(..., n) -> (rows, n)."""
        if x not in self._flat:
            source, sizes = x.producer(), _sizes(x)
            inner = source.inputs[0] if source and source.op_type in ELEMENTWISE and source.domain == "" else None
            if source is not None and inner is not None and inner in self._flat:
                node = onnx_ir.node(source.op_type, [self._flat[inner]], source.attributes)
            else:
                node = onnx_ir.node("Flatten", [x], {"axis": len(sizes) - 1})
            self._flat[x] = self._put(node, f"{x.name}_flat", before, (None, sizes[-1]))
        return self._flat[x]

    def _shape(self, x: Value, width: Size, before: Node) -> Value:
        """x's sizes but for the last, and `width`."""
        lead = _sizes(x)[:-1]
        if lead not in self._shapes:
            node = onnx_ir.node("Shape", [x], {"start": 0, "end": -1})
            self._shapes[lead] = self._put(node, f"{x.name}_lead", before, (len(lead),), DataType.INT64)
        sizes = (*lead, width)
        if sizes not in self._shapes:
            tensor = onnx_ir.tensor(np.array([width], np.int64), name=f"{x.name}_to_{width}")
            last = Value(
                name=tensor.name, const_value=tensor, shape=onnx_ir.Shape([1]), type=TensorType(DataType.INT64)
            )
            self._graph.register_initializer(last)
            node = onnx_ir.node("Concat", [self._shapes[lead], last], {"axis": 0})
            self._shapes[sizes] = self._put(node, f"{x.name}_to_{width}_shape", before, (len(sizes),), DataType.INT64)
        return self._shapes[sizes]

    def _put(
        self, node: Node, name: str, before: Node, sizes: tuple[Size, ...], dtype: DataType = DataType.FLOAT
    ) -> Value:
        """In front of another, its output under that name."""
        output = node.outputs[0]
        output.name, output.shape, output.type = name, onnx_ir.Shape(sizes), TensorType(dtype)
        node.name = node.name or f"node_{name}"
        self._graph.insert_before(before, node)
        return output


def _sizes(value: Value) -> tuple[Size, ...]:
    """Of its axes: numbers, names, or None."""
    known = value.const_value.shape if value.const_value is not None else value.shape
    return tuple(size if isinstance(size, int) else size.value for size in known) if known is not None else ()
