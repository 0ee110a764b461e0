"""merge_decoders: an encoder-decoder's two decoders as one graph with a switch, which is what transformers.js opens.

    outputs = If(use_cache_branch, later(input_ids, past_key_values), first(input_ids, encoder_hidden_states))

Weights that both have, byte by byte, are there once. The first step is given a past of no positions, which it does not
read; every later step hands on the keys and values of the encoded source as they came.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
import onnx_ir
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper

from edgefold.errors import InputError
from edgefold.exporters.graph_saving import SINGLE_FILE_BYTES, write_graph
from edgefold.exporters.model_files import load_model

SWITCH = "use_cache_branch"
PAST, PRESENT, SOURCE = "past_key_values", "present", ".encoder."
POSITIONS = "encoder_sequence"
"""Of the encoded source, in its keys and values; where the model has a fixed number, the empty past has none yet."""


def merge_decoders(first: Path, later: Path, out: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """Write to `out` the graph of both.

    Raises:
        InputError: a graph with branches or loops of its own, or one that gives what the other does not.
    """
    models = {"first": load_model(first), "later": load_model(later)}
    weights = _Weights()
    renamed = {side: weights.add(model.graph, side) for side, model in models.items()}
    inputs = {value.name: value for side in ("later", "first") for value in models[side].graph.input}
    for name in inputs:
        if name.startswith(PAST) and SOURCE in name:
            inputs[name].type.tensor_type.shape.dim[2].dim_param = POSITIONS
    ends = _ends(models["first"].graph, models["later"].graph)
    branches = {
        side: _branch(model.graph, side, renamed[side], frozenset(inputs), ends) for side, model in models.items()
    }
    switch = helper.make_tensor_value_info(SWITCH, TensorProto.BOOL, [1])
    choice = helper.make_node(
        "If", [SWITCH], list(ends), then_branch=branches["later"], else_branch=branches["first"], name="decoder"
    )
    graph = helper.make_graph([choice], "decoders", [*inputs.values(), switch], list(ends.values()), weights.tensors)
    head = models["first"]
    model = helper.make_model(graph, opset_imports=list(head.opset_import), ir_version=head.ir_version)
    write_graph(onnx_ir.from_proto(model), out, single_file_bytes)


class _Weights:
    """The initializers of both graphs, equal ones once."""

    def __init__(self) -> None:
        self.tensors: list[TensorProto] = []
        self._names: dict[str, str] = {}

    def add(self, graph: GraphProto, side: str) -> dict[str, str]:
        """Name in that graph -> name in both."""
        found = {}
        for tensor in graph.initializer:
            name, tensor.name = tensor.name, ""
            content = hashlib.sha256(tensor.SerializeToString()).hexdigest()
            if content not in self._names:
                taken = name in self._names.values()
                tensor.name = self._names[content] = f"{side}/{name}" if taken else name
                self.tensors.append(tensor)
            found[name] = self._names[content]
        return found


def _ends(first: GraphProto, later: GraphProto) -> dict[str, ValueInfoProto]:
    """What comes out: in the order of the first step, with the sizes of the later ones where they have them."""
    ends = {value.name: value for value in first.output}
    ends |= {value.name: value for value in later.output}
    missing = set(ends) - {value.name for value in first.output}
    if missing:
        raise InputError(f"The decoder's first step does not give {', '.join(sorted(missing))}; export it again.")
    return ends


def _branch(
    graph: GraphProto, side: str, weights: Mapping[str, str], inputs: frozenset[str], ends: Mapping[str, ValueInfoProto]
) -> GraphProto:
    """One side of the switch: what is its own bears its name."""

    def called(name: str) -> str:
        return weights.get(name) or (name if name in inputs or not name else f"{side}/{name}")

    nodes = [_renamed(node, side, called) for node in graph.node]
    given = {value.name for value in graph.output}
    for name in set(ends) - given:
        past = name.replace(PRESENT, PAST, 1)
        if past not in inputs:
            raise InputError(f"The decoder's later steps neither give {name} nor take {past}; export it again.")
        nodes.append(helper.make_node("Identity", [past], [called(name)], name=called(f"pass {name}")))
    outputs = [
        helper.make_tensor_value_info(called(name), value.type.tensor_type.elem_type, None)
        for name, value in ends.items()
    ]
    return helper.make_graph(nodes, side, [], outputs)


def _renamed(node: NodeProto, side: str, called: Callable[[str], str]) -> NodeProto:
    if any(attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute):
        raise InputError(
            f"The node {node.name} holds graphs of its own ({node.op_type}); such decoders are not merged."
        )
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = node.name and f"{side}/{node.name}"
    copy.ClearField("input")
    copy.ClearField("output")
    copy.input.extend(map(called, node.input))
    copy.output.extend(map(called, node.output))
    return copy
