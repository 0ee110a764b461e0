"""A graph rewrite for GPUs: what is picked from a matrix by two indices is picked by one, the same."""

import numpy as np
import onnx_ir
from onnx_ir import Node, Value

WHOLE = (-1,)


def flatten_mask_gathers(model: onnx_ir.Model) -> int:
    """M[i, j] -> flat(M)[i n + j], M: (m, n), i, j >= 0; returns how many were rewritten.

    Transformers' attention masks are picked so, with indices counted up from 0. ONNX Runtime's CUDA provider has no
    GatherND of booleans, and that of other types copies from the host in each run, which no CUDA graph may hold; Gather
    it has of every type.
    """
    rewritten = 0
    for node in list(model.graph):
        indices = _two_indices(node) if node.op_type == "GatherND" and node.domain == "" else None
        if indices is not None:
            _rewrite(model.graph, node, *indices)
            rewritten += 1
    return rewritten


def _two_indices(node: Node) -> tuple[Value, Value] | None:
    """i and j, where the indices are Concat(Unsqueeze(i, -1), Unsqueeze(j, -1)) and both are counted up from 0."""
    matrix, indices = node.inputs
    if node.outputs[0].is_graph_output():
        return None
    joined = indices.producer() if indices is not None else None
    if matrix is None or matrix.shape is None or len(matrix.shape) != 2 or node.attributes.get_int("batch_dims"):
        return None
    if joined is None or joined.op_type != "Concat" or len(joined.inputs) != 2:
        return None
    parts = [part.producer() if part is not None else None for part in joined.inputs]
    found = [_unsqueezed(part) for part in parts if part is not None]
    if len(found) != 2 or found[0] is None or found[1] is None:
        return None
    rank = found[0].shape and len(found[0].shape)
    axis = joined.attributes.get_int("axis", 0)
    return (found[0], found[1]) if rank is not None and axis in (-1, rank) and all(map(_counts_up, found)) else None


def _unsqueezed(node: Node) -> Value | None:
    """What gets a last axis of size 1."""
    if node.op_type != "Unsqueeze" or node.inputs[0] is None or node.inputs[0].shape is None:
        return None
    axes = onnx_ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
    rank = len(node.inputs[0].shape)
    return node.inputs[0] if axes is not None and axes.numpy().tolist() in ([-1], [rank]) else None


def _counts_up(value: Value | None) -> bool:
    """Whether it is Range(0, n, 1), laid out along axes and repeated along others."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "Range":
            ends = [onnx_ir.convenience.get_const_tensor(end) for end in (node.inputs[0], node.inputs[2]) if end]
            return [end.numpy().item() for end in ends if end is not None] == [0, 1]
        if node.op_type not in ("Unsqueeze", "Expand", "Identity"):
            return False
        value = node.inputs[0]
    return False


def _rewrite(graph: onnx_ir.Graph, node: Node, row: Value, column: Value) -> None:
    """Reshape(M, -1), i n + j, Gather; in front of the node that they replace."""
    matrix, found = node.inputs[0], node.outputs[0]
    tensor = onnx_ir.tensor(np.array(WHOLE, np.int64), name=f"{found.name}_whole")
    whole = Value(name=tensor.name, const_value=tensor, shape=onnx_ir.Shape([1]), type=onnx_ir.TensorType(tensor.dtype))
    graph.register_initializer(whole)
    flat = Node("", "Reshape", [matrix, whole])
    width = Node("", "Shape", [matrix], [onnx_ir.AttrInt64("start", 1), onnx_ir.AttrInt64("end", 2)])
    above = Node("", "Mul", [row, width.outputs[0]])
    place = Node("", "Add", [above.outputs[0], column])
    picked = Node("", "Gather", [flat.outputs[0], place.outputs[0]], [onnx_ir.AttrInt64("axis", 0)])
    nodes = [flat, width, above, place, picked]
    for new in nodes:
        new.outputs[0].name = f"{found.name}_{new.op_type.lower()}"
        new.name = f"node_{new.outputs[0].name}"
    graph.insert_before(node, nodes)
    picked.outputs[0].shape, picked.outputs[0].type = found.shape, found.type
    onnx_ir.convenience.replace_all_uses_with(found, picked.outputs[0])
    graph.remove(node, safe=True)
