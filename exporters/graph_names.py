"""Names of a graph's inputs, outputs and dynamic dimensions, instead of the trace's symbols."""

from collections.abc import Mapping, Sequence

import onnx_ir

from edgefold.errors import InputError

Axes = Mapping[str, Mapping[int, str]]
"""Name of an input or output -> axis -> name of its dynamic dimension."""


def name_dimensions(model: onnx_ir.Model, axes: Axes) -> None:
    """Call the dynamic dimensions of all values by their labels."""
    labels: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, label in axes.get(str(value.name), {}).items():
            symbol = value.shape[axis] if value.shape is not None else None
            if isinstance(symbol, onnx_ir.SymbolicDim) and symbol.value:
                labels[symbol.value] = label
    values = [*model.graph.inputs, *(output for node in model.graph.all_nodes() for output in node.outputs)]
    for value in values:
        sizes = {
            axis: labels[size.value]
            for axis, size in enumerate(value.shape or ())
            if isinstance(size, onnx_ir.SymbolicDim) and size.value in labels
        }
        _rename(value, sizes)


def name_ends(model: onnx_ir.Model, inputs: Sequence[str], outputs: Sequence[str], axes: Axes) -> None:
    """Name the inputs and outputs, in order, and the dynamic axes of the outputs.

    Raises:
        InputError: the graph has others than were traced, as when an output is an input as it came.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        raise InputError(
            f"The graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs where {len(inputs)} and "
            f"{len(outputs)} were traced; export the model without a cache, with export_onnx."
        )
    for value, name in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = name
    name_dimensions(model, axes)
    for value in graph.outputs:
        _rename(value, axes.get(str(value.name), {}))


def _rename(value: onnx_ir.Value, sizes: Mapping[int, str]) -> None:
    """A new shape, since that of a graph converted to an older opset is frozen."""
    if value.shape is not None and sizes:
        value.shape = onnx_ir.Shape([sizes.get(axis, size) for axis, size in enumerate(value.shape)])
