"""A traced module as JSON and tensors, and the module rebuilt from them: no class, no pickle, no code of its maker."""

import keyword
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Node
from torch.utils._pytree import tree_leaves, tree_unflatten

from edgefold.copies import copied
from edgefold.errors import InputError
from edgefold.graphs.modal_graphs import ModalGraph
from edgefold.graphs.targets import find_target, target_name
from edgefold.graphs.values import decode_value, encode_value
from edgefold.tracing.forward_graphs import forward_graph

DROPPED = ("aten._assert_tensor_metadata.default",)
"""Checks of the trace itself, that hold by construction."""
NAME = re.compile(r"[\w:/+ -]+")
"""What a part of a tensor's name may be: torch allows all but dots, and within quotes this is harmless."""


def trace_plain(plain: nn.Module, inputs: Mapping[str, Tensor]) -> GraphModule:
    """The module in evaluation mode on the CPU as a graph of aten operators; its first two input axes are dynamic
    where the module allows it.

    Raises:
        InputError: it cannot be traced, or its graph computes something else at another number of rows.
    """
    model = copied(plain).cpu().eval()
    examples = {name: value.detach().cpu() for name, value in inputs.items()}
    try:
        graph = forward_graph(model, examples)
    except Exception as error:
        raise InputError(
            f"{type(plain).__name__} cannot be traced with the inputs given: {str(error).strip().splitlines()[0]} "
            "Save it without inputs= and open it with load_student(folder, architecture=...)."
        ) from error
    _check_outputs(model, graph, examples)
    return graph


def describe_graph(module: GraphModule) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The graph as a JSON-able object, and its tensors by name.

    A container that the module returns becomes a tuple, a list or a dict; so does an output class of Hugging Face.

    Raises:
        InputError: it calls or holds something that a graph file cannot.
    """
    training = module.training
    try:
        return _describe(module.eval() if isinstance(module, ModalGraph) else module)
    finally:
        if isinstance(module, ModalGraph):
            module.train(training)


def _describe(module: GraphModule) -> tuple[dict[str, Any], dict[str, Tensor]]:
    nodes: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    names = iter(_input_names(module))
    for node in module.graph.nodes:
        if node.op == "placeholder":
            nodes.append({"op": "placeholder", "name": node.name, "target": next(names)})
        elif node.op == "get_attr":
            tensors[str(node.target)] = _tensor(module, str(node.target))
            nodes.append({"op": "get_attr", "name": node.name, "target": str(node.target)})
        elif node.op == "output":
            nodes.append({"op": "output", "args": encode_value(_outputs(module, node))})
        elif node.op != "call_function":
            raise InputError(f"The traced graph has a node {node.op} {node.target}; only functions can be saved.")
        elif (name := target_name(node.target)) not in DROPPED:
            arguments = {"args": encode_value(list(node.args)), "kwargs": encode_value(dict(node.kwargs))}
            nodes.append({"op": "call_function", "name": node.name, "target": name, **arguments})
    parameters = [name for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter)]
    return {"nodes": nodes, "parameters": parameters}, tensors


def build_graph(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> GraphModule:
    """The module that `describe_graph` described; a tensor that comes under two names stays one.

    Raises:
        InputError: the description is malformed, or calls what is not allowed.
    """
    parameters = set(description["parameters"])
    owned = {id(t): nn.Parameter(t, t.is_floating_point()) for name, t in tensors.items() if name in parameters}
    graph, nodes = Graph(), dict[str, Node]()
    for entry in description["nodes"]:
        try:
            _add_node(graph, nodes, entry)
        except (KeyError, TypeError) as error:
            raise InputError(f"The graph file has a malformed node {str(entry)[:80]} ({error}).") from None
    attributes = {name: owned.get(id(tensor), tensor) for name, tensor in tensors.items()}
    module = ModalGraph({_attribute(name): value for name, value in attributes.items()}, graph, "GraphModule")
    return module.eval()


def _add_node(graph: Graph, nodes: dict[str, Node], entry: Mapping[str, Any]) -> None:
    if entry["op"] == "output":
        graph.output(decode_value(entry["args"], nodes))
        return
    name, op = _identifier(entry["name"]), entry["op"]
    if op == "placeholder":
        node = graph.create_node(op, _identifier(entry["target"]), name=name)
    elif op == "get_attr":
        node = graph.create_node(op, _attribute(entry["target"]), name=name)
    else:
        arguments = tuple(decode_value(entry["args"], nodes))
        keywords = {_identifier(key): value for key, value in decode_value(entry["kwargs"], nodes).items()}
        node = graph.create_node("call_function", find_target(entry["target"]), arguments, keywords, name)
    nodes[entry["name"]] = node


def _identifier(name: object) -> str:
    """A name that may stand in the code that torch.fx writes for a graph.

    Raises:
        InputError: it is no identifier, or a word of Python's.
    """
    if isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name):
        return name
    raise _no_name(name)


def _attribute(name: object) -> str:
    """A dotted name of a tensor, each part of which torch.fx writes as it is if it is an identifier, else in quotes.

    Raises:
        InputError: a part holds what could end the quotes, or is a word of Python's.
    """
    parts = name.split(".") if isinstance(name, str) else [""]
    if all(NAME.fullmatch(part) and not keyword.iskeyword(part) for part in parts):
        return str(name)
    raise _no_name(name)


def _no_name(name: object) -> InputError:
    return InputError(f"The graph file has the name {str(name)[:80]!r}, which is none of a module; make it again.")


def _tensor(module: GraphModule, target: str) -> Tensor:
    value: Any = module
    for part in target.split("."):
        value = getattr(value, part)
    if isinstance(value, Tensor):
        return value
    raise InputError(
        f"The traced graph holds {target} of type {type(value).__name__}, which a graph file cannot hold; save "
        "without inputs= and open with load_student(folder, architecture=...)."
    )


def _input_names(module: GraphModule) -> list[str]:
    """The names of forward's arguments, in the order of the graph's placeholders."""
    placeholders = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    info = getattr(module.graph._codegen, "pytree_info", None)
    if info is None or info.in_spec is None:
        return placeholders
    keywords = list(info.in_spec.child(1).context or [])
    return keywords if len(keywords) == len(placeholders) else placeholders


def _outputs(module: GraphModule, node: Node) -> Any:
    """What the module returns, with nodes in place of tensors."""
    info = getattr(module.graph._codegen, "pytree_info", None)
    if info is None or info.out_spec is None:
        return node.args[0]
    return tree_unflatten(tree_leaves(node.args[0], is_leaf=lambda leaf: leaf is None), info.out_spec)


def _check_outputs(model: nn.Module, graph: GraphModule, examples: Mapping[str, Tensor]) -> None:
    """The graph must compute what the model does: on the examples, on twice their rows, on their first row alone.

    A number of rows at which the model itself does not work is left out.
    """
    batches = {
        "the rows given": examples,
        "twice the rows given": {name: torch.cat([value, value]) for name, value in examples.items()},
        "one row": {name: value[:1] for name, value in examples.items()},
    }
    for rows, batch in batches.items():
        try:
            expected = _tensors_of(model, batch)
        except Exception:
            continue
        try:
            torch.testing.assert_close(_tensors_of(graph, batch), expected, equal_nan=True, rtol=1e-5, atol=1e-5)
        except Exception as error:
            raise InputError(
                f"The traced graph of {type(model).__name__} does not do what the model does with {rows}: "
                f"{str(error).strip().splitlines()[0]} Give inputs of at least 2 rows, of the sizes in use, or save "
                "without inputs= and open with load_student(folder, architecture=...)."
            ) from error


def _tensors_of(module: nn.Module, batch: Mapping[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [leaf for leaf in tree_leaves(module(**batch)) if isinstance(leaf, Tensor)]
