"""A graph to be exported: a module of named tensors, and the conversion to ONNX under those names."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import onnx_ir
import torch
from torch import Tensor, nn
from torch.export import Dim

from edgefold.errors import InputError
from edgefold.exporters.graph_names import Axes, name_ends
from edgefold.exporters.graph_passes import pass_over
from edgefold.exporters.onnx_tracing import for_onnx
from edgefold.tracing.quiet_tracing import first_cause


@dataclass(frozen=True)
class GraphPart:
    """One graph: forward(inputs: dict of tensors) -> dict of tensors."""

    name: str
    """Of its file, without the suffix."""
    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Examples; no dynamic axis has the size 1, which a trace takes for a constant."""
    outputs: tuple[str, ...]
    axes: Axes
    """Dynamic axes of inputs and outputs. The name of a sum, "past + sequence", is what its parts are."""

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"


def convert_part(part: GraphPart, opset: int) -> onnx_ir.Model:
    """The ONNX graph of a part.

    Raises:
        InputError: it cannot be exported.
    """
    labels = {label for name in part.inputs for label in part.axes.get(name, {}).values()}
    dims = {label: Dim(label) for label in labels if label.isidentifier()}
    shapes: Any = {
        name: {axis: dims.get(label, Dim.DYNAMIC) for axis, label in part.axes.get(name, {}).items()}
        for name in part.inputs
    }
    try:
        with for_onnx():
            program = torch.onnx.export(
                part.module,
                (),
                kwargs={"inputs": dict(part.inputs)},
                dynamic_shapes={"inputs": shapes},
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch.export and the exporter each raise their own
        raise InputError(f"The {part.name} of this model cannot be exported to ONNX: {first_cause(error)}") from error
    assert program is not None
    name_ends(program.model, tuple(part.inputs), part.outputs, part.axes)
    pass_over(program.model)
    return program.model
