"""An ONNX graph as a linter sees it: every node, in branches, loops and local functions too; no weights are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

from edgefold.errors import InputError


@dataclass(frozen=True)
class GraphView:
    """What rules ask about a model."""

    model: onnx.ModelProto
    folder: Path
    """Where external data is looked for."""
    initializers: dict[str, onnx.TensorProto]
    types: dict[str, int]
    """Value -> ONNX's number of its element type, where the file tells it."""

    @property
    def opset(self) -> int:
        return next((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), 0)

    @property
    def functions(self) -> frozenset[tuple[str, str]]:
        """(domain, name) of the model's own functions."""
        return frozenset((function.domain, function.name) for function in self.model.functions)

    def nodes(self) -> Iterator[onnx.NodeProto]:
        yield from _walk(self.model.graph.node)
        for function in self.model.functions:
            yield from _walk(function.node)

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """The value of an initializer or Constant node; None for what is computed, or cannot be read."""
        tensor = self.initializers.get(name)
        if tensor is None:
            return None
        if uses_external_data(tensor):
            tensor = _loaded(tensor, self.folder)
        return None if tensor is None else numpy_helper.to_array(tensor)


def open_graph(path: Path) -> GraphView:
    """Read the graph; external data stays where it is.

    Raises:
        InputError: the file is no ONNX model.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes share no base
        raise InputError(f"{path} is no ONNX model: {' '.join(str(error).split()) or type(error).__name__}.") from error
    if not model.graph.node and not model.graph.output:
        raise InputError(f"{path} is no ONNX model: it has neither nodes nor outputs.")
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in _walk(model.graph.node):
        if node.op_type == "Constant":
            initializers.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values if value.type.HasField("tensor_type")}
    types |= {name: tensor.data_type for name, tensor in initializers.items()}
    return GraphView(model, path.parent, initializers, types)


def name_of(node: onnx.NodeProto) -> str:
    """Its name, or where it has none, what it makes."""
    return node.name or f"({node.op_type} -> {', '.join(node.output)})"


def type_name(number: int) -> str:
    return str(onnx.TensorProto.DataType.Name(number)).lower()


def _walk(nodes: "Iterator[onnx.NodeProto] | list[onnx.NodeProto]") -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _walk(graph.node)


def _loaded(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto | None:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    try:
        load_external_data_for_tensor(copy, str(folder))
    except Exception:  # missing or outside the folder: a rule of its own says so
        return None
    return copy
