"""fp16: weights and products in half precision, and whatever is sensitive to it left in fp32, with casts between.

Only operators of `HALVED` are converted, whose float inputs and outputs are all of one type. Sums, exponentials, powers
and norms stay in fp32, and so does what is computed of their results and constants alone, as mean(x²) + ε is: in fp16
it overflows above 65504, or ε vanishes. So do the angles of rotary positions, whole numbers times frequencies: fp16
knows no odd number above 2048. The converters of onnxruntime.transformers and onnxconverter_common are not used:
between two neighbouring operators that they keep in fp32 the value goes through fp16, so that mean(x²) overflows anyway
(read in onnxruntime 1.32).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray
from onnx_ir import AttributeType, DataType

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.exporters.graph_saving import SINGLE_FILE_BYTES, read_specs, write_graph

ARITHMETIC = frozenset(("Add", "Sub", "Mul", "Div", "Sum", "Neg"))
MOVING = frozenset(
    ("Reshape", "Transpose", "Slice", "Squeeze", "Unsqueeze", "Expand", "Gather", "Split", "Identity", "Flatten")
)
"""What computes nothing stays in the type that it is given; constants are halved."""
HALVED = (
    frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose", "Concat", "Where", "MaxPool", "AveragePool"))
    | frozenset(("Relu", "LeakyRelu", "Gelu", "Erf", "Tanh", "Sigmoid", "Swish", "HardSigmoid", "HardSwish"))
    | ARITHMETIC
    | MOVING
)
INDIFFERENT = frozenset(("Cast", "Shape", "Size"))
"""What reads any type."""
FREE = INDIFFERENT | frozenset(("Constant", "ConstantOfShape", "Range"))
"""What is neither sensitive nor converted."""
PERIODIC = frozenset(("Sin", "Cos"))
LARGEST = float(np.finfo(np.float16).max)
FILL = 1e30
"""Constants beyond it mask scores before a softmax."""
HALF_FILL = 1e4
"""What masks in fp16: with -65504 a score more would be -inf, and a row masked throughout NaN."""
CACHES = ("past_key_values.", "present.")
"""Inputs and outputs of these names are in fp16 as well, so that what is kept from step to step is half as large."""


@dataclass(frozen=True)
class Halved:
    """What was made of a model."""

    kept: dict[str, int]
    """How many operators of each type stay in fp32."""
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]


def halve_model(path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> Halved:
    """Convert the fp32 model at `path`, in place.

    Raises:
        InputError: it has branches or loops.
    """
    model = onnx_ir.load(path)
    kept = halve_graph(model)
    write_graph(model, path, single_file_bytes)
    return Halved(kept, *read_specs(model))


def halve_graph(model: onnx_ir.Model) -> dict[str, int]:
    """The same function in fp16; inputs and outputs keep their types, but for `CACHES`."""
    graph = model.graph
    _check_flat(graph)
    twins = _Twins(graph)
    kept: Counter[str] = Counter()
    sensitive = _angles(graph)
    for value in graph.inputs:
        if _is(value, DataType.FLOAT) and str(value.name).startswith(CACHES):
            value.dtype = DataType.FLOAT16
    for node in list(graph):
        if not any(_is(value, DataType.FLOAT, DataType.FLOAT16) for value in (*node.inputs, *node.outputs)):
            continue
        if node not in sensitive and _is_halved(node, sensitive):
            twins.read(node, DataType.FLOAT16)
            for value in node.outputs:
                if _is(value, DataType.FLOAT):
                    value.dtype = DataType.FLOAT16
            continue
        if node.op_type not in MOVING | FREE:
            kept[node.op_type] += 1
            sensitive.add(node)
        if node.op_type not in INDIFFERENT:
            twins.read(node, DataType.FLOAT)
    twins.restore_outputs()
    return dict(sorted(kept.items()))


def _check_flat(graph: onnx_ir.Graph) -> None:
    for node in graph:
        if any(a.type in (AttributeType.GRAPH, AttributeType.GRAPHS) for a in node.attributes.values()):
            raise InputError(f"fp16 takes no branches and loops, and {node.name} is a {node.op_type}; use fp32.")


def _is_halved(node: onnx_ir.Node, sensitive: set[onnx_ir.Node]) -> bool:
    """Whether a node computes in fp16."""
    if node.op_type not in HALVED or node.domain not in ("", "ai.onnx"):
        return False
    floats = [value for value in node.inputs if value is not None and _is(value, DataType.FLOAT, DataType.FLOAT16)]
    if not all(map(_fits, floats)):
        return False
    computed = [value for value in floats if value.const_value is None]
    if node.op_type in MOVING:
        return not computed or _is(computed[0], DataType.FLOAT16)
    is_of_sensitive = bool(computed) and {value.producer() for value in computed} <= sensitive
    return not (node.op_type in ARITHMETIC and is_of_sensitive)


def _angles(graph: onnx_ir.Graph) -> set[onnx_ir.Node]:
    """What computes the arguments of sines and cosines from whole numbers and constants alone."""
    counted: set[onnx_ir.Node] = set()
    for node in graph:
        floats = [v for v in node.inputs if v is not None and _is(v, DataType.FLOAT) and v.const_value is None]
        if {value.producer() for value in floats} <= counted and (node.inputs or node.op_type in FREE):
            counted.add(node)
    found: set[onnx_ir.Node] = set()
    waiting = [node for node in graph if node.op_type in PERIODIC]
    while waiting:
        for value in waiting.pop().inputs:
            source = value.producer() if value is not None else None
            if source is not None and source in counted and source not in found:
                found.add(source)
                waiting.append(source)
    return found


class _Twins:
    """Every value in the type that its reader wants: constants converted, all others through one Cast."""

    def __init__(self, graph: onnx_ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[onnx_ir.Value, DataType], onnx_ir.Value] = {}

    def read(self, node: onnx_ir.Node, dtype: DataType) -> None:
        """Let the node read its floats in that type."""
        other = DataType.FLOAT if dtype == DataType.FLOAT16 else DataType.FLOAT16
        for index, value in enumerate(node.inputs):
            if value is None or not _is(value, other):
                continue
            twin = self._made.get((value, dtype))
            if twin is None:
                constant = value.const_value if str(value.name) in self._graph.initializers else None
                twin = self._cast(value, dtype, node) if constant is None else self._halved(value, constant.numpy())
                self._made[value, dtype] = twin
            node.replace_input_with(index, twin)
            if not value.uses() and str(value.name) in self._graph.initializers:
                del self._graph.initializers[str(value.name)]

    def restore_outputs(self) -> None:
        """Outputs in the type they had; those of a cache in fp16."""
        for index, value in enumerate(self._graph.outputs):
            wanted = DataType.FLOAT16 if str(value.name).startswith(CACHES) else DataType.FLOAT
            if not _is(value, DataType.FLOAT, DataType.FLOAT16) or value.dtype == wanted:
                continue
            name, value.name = value.name, f"{value.name}_uncast"
            output = self._cast(value, wanted, None)
            output.name = name
            self._graph.outputs[index] = output

    def _cast(self, value: onnx_ir.Value, dtype: DataType, reader: onnx_ir.Node | None) -> onnx_ir.Value:
        name = f"{value.name}_{'half' if dtype == DataType.FLOAT16 else 'single'}"
        node = onnx_ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}_cast")
        (output,) = node.outputs
        output.name, output.dtype, output.shape = name, dtype, value.shape
        if reader is None:
            self._graph.append(node)
        else:
            self._graph.insert_before(reader, node)
        return output

    def _halved(self, value: onnx_ir.Value, array: NDArray[Any]) -> onnx_ir.Value:
        filled = np.where(np.abs(array) > FILL, np.sign(array) * HALF_FILL, array)
        tensor = onnx_ir.tensor(filled.astype(np.float16), name=f"{value.name}_half")
        twin = onnx_ir.Value(
            name=tensor.name, shape=value.shape, type=onnx_ir.TensorType(DataType.FLOAT16), const_value=tensor
        )
        self._graph.initializers.add(twin)
        return twin


def _fits(value: onnx_ir.Value) -> bool:
    """Whether a constant is within fp16, but for what masks."""
    if value.const_value is None:
        return True
    sizes = np.abs(value.const_value.numpy())
    return not ((sizes > LARGEST) & (sizes <= FILL)).any()


def _is(value: onnx_ir.Value | None, *types: DataType) -> bool:
    return value is not None and value.dtype in types


def sum_kept(parts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Operators left in fp32 over all graphs of an artifact."""
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(sorted(total.items()))
