"""What quantizing one layer alone does to the outputs, layer by layer, on calibration data.

All layers are quantized once; a switch in the graph gives each either its quantized operands or those in fp32, so that
one session serves for all: error(i) = ‖y(only i quantized) - y‖ / ‖y‖.
"""

from ast import literal_eval
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgefold.exporters.calibration_batches import Arrays, Batch, as_arrays
from edgefold.exporters.model_files import load_model
from edgefold.exporters.parity import open_graph
from edgefold.exporters.quantization import KINDS, quantize_static_nodes, weight_products
from edgefold.exporters.targets import find_target

SCOPES = "pkg.torch.onnx.name_scopes"
ROWS = 8
"""Rows of the batches that each layer is run on."""
SHARE = 0.5
"""Layers are left out until those that stay have this share of the summed squared errors,"""
MOST_LEFT_OUT = 8
"""but no more than one in so many."""


@dataclass(frozen=True)
class LayerSensitivity:
    """What quantizing one layer costs."""

    layer: str
    """The name of its node in the graph, which `quantize_onnx(left_out=...)` takes."""
    module: str
    """The module of the network that it stands in; empty where the graph does not say."""
    kind: str
    parameters: int
    error: float
    """Relative, of all floating-point outputs together."""


def measure_sensitivity(path: Path, batches: Sequence[Batch], target: str) -> list[LayerSensitivity]:
    """Of the layers that static int8 would quantize, the most sensitive first.

    Raises:
        InputError: no batches, or some that the model cannot read.
    """
    model = load_model(path)
    names = weight_products(model, KINDS["static"])
    with TemporaryDirectory() as folder:
        out = Path(folder) / "switched.onnx"
        quantize_static_nodes(path, out, names, find_target(target), batches)
        switches = _insert_switches(out, model, names)
        errors = _measure(out, switches, _first_rows(as_arrays(batches, model)))
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    found = [
        LayerSensitivity(name, _module(nodes[name]), nodes[name].op_type, sizes[nodes[name].input[1]], errors[name])
        for name in names
    ]
    return sorted(found, key=lambda layer: -layer.error)


def most_sensitive(layers: Sequence[LayerSensitivity]) -> list[str]:
    """The few layers that hold most of the summed squared errors; none of a handful of layers."""
    total = sum(layer.error**2 for layer in layers)
    chosen: list[str] = []
    left = total
    for layer in sorted(layers, key=lambda layer: -layer.error)[: len(layers) // MOST_LEFT_OUT]:
        if left <= SHARE * total:
            break
        chosen.append(layer.layer)
        left -= layer.error**2
    return chosen


def _module(node: onnx.NodeProto) -> str:
    """As torch's exporter notes it: the names of the modules around, and at last the operator's."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    scopes = literal_eval(notes.get(SCOPES, "[]"))
    return str(scopes[-2]) if len(scopes) > 1 else ""


def _insert_switches(path: Path, original: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """Layer -> the Boolean input that quantizes it; whatever else reads quantized values reads fp32 again."""
    model = load_model(path)
    graph = model.graph
    producer = {name: node for node in graph.node for name in node.output}
    before = {node.name: node for node in original.graph.node}
    switches = {name: f"quantize_{index}" for index, name in enumerate(names)}
    nodes: list[onnx.NodeProto] = []
    needed: set[str] = set()
    for node in graph.node:
        for index, name in enumerate(node.input):
            dequantizer = producer.get(name)
            if dequantizer is None or dequantizer.op_type != "DequantizeLinear" or node.op_type == "QuantizeLinear":
                continue
            quantizer = producer.get(dequantizer.input[0])
            plain = quantizer.input[0] if quantizer is not None else before[node.name].input[index]
            needed.add(plain)
            if node.name not in switches:
                node.input[index] = plain
                continue
            node.input[index] = f"{node.name}_{index}_switched"
            nodes.append(helper.make_node("Where", [switches[node.name], name, plain], [node.input[index]]))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    present = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(t for t in original.graph.initializer if t.name in needed - present)
    graph.input.extend(helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in switches.values())
    onnx.save(model, path)
    return switches


def _measure(path: Path, switches: dict[str, str], batches: Sequence[Arrays]) -> dict[str, float]:
    session = open_graph(path)
    off = dict.fromkeys(switches.values(), np.array(False))
    plain = [_floats(session.run(None, {**batch, **off})) for batch in batches]
    norm = _norm(plain) or 1.0
    errors = {}
    for layer, switch in switches.items():
        feeds = {**off, switch: np.array(True)}
        found = [_floats(session.run(None, {**batch, **feeds})) for batch in batches]
        errors[layer] = _norm([a - b for a, b in zip(found, plain, strict=True)]) / norm
    return errors


def _floats(outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All floating-point outputs in one row."""
    rows = [value.astype(np.float64).ravel() for value in outputs if np.issubdtype(value.dtype, np.floating)]
    return np.concatenate(rows) if rows else np.zeros(1)


def _norm(rows: Sequence[NDArray[Any]]) -> float:
    return float(np.sqrt(sum(float(row @ row) for row in rows)))


def _first_rows(batches: Sequence[Arrays]) -> list[Arrays]:
    """The first of each batch in turn, `ROWS` in all."""
    each = max(1, ROWS // len(batches))
    return [{name: value[:each] for name, value in batch.items()} for batch in batches[:ROWS]]
