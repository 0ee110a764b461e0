"""Which operator of one traced graph does the work of which operator of another, found from where each stands."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch.fx import GraphModule, Node


class Place(NamedTuple):
    """Where an operator stands: the same in two graphs of the same architecture, whatever their sizes and depths."""

    module: str
    """Qualified name of the module whose forward calls it."""
    after: str
    """The last submodule of that module to have run before it: tells the steps of a loop over layers apart."""
    operator: str
    ordinal: int
    """Which one, in the order of execution, of those that agree in all the rest."""


def align(graph: GraphModule, other: GraphModule, layer_map: Mapping[str, str] | None = None) -> dict[Node, Node]:
    """For each operator of `graph` its counterpart in `other`; those without one are left out.

    Args:
        layer_map: module paths of `graph` -> module paths of `other`, where they differ; a submodule follows the
            nearest module above it.
    """
    mine, others = _operators(graph), _operators(other)
    if not layer_map and [node.target for node in mine] == [node.target for node in others]:
        return dict(zip(mine, others, strict=True))
    counterparts = dict(places(other))
    return {node: counterparts[place] for place, node in places(graph, layer_map) if place in counterparts}


def _operators(graph: GraphModule) -> list[Node]:
    return [node for node in graph.graph.nodes if node.op == "call_function"]


def places(graph: GraphModule, layer_map: Mapping[str, str] | None = None) -> Iterator[tuple[Place, Node]]:
    """Every operator that stands in a module, with its place under the names that `layer_map` gives."""
    last_run: dict[str, str] = {}
    seen: Counter[tuple[str, str, str]] = Counter()
    for node in graph.graph.nodes:
        if node.op != "call_function" or not node.meta.get("nn_module_stack"):
            continue
        module = renamed(module_of(node), layer_map or {})
        last_run |= dict.fromkeys(_above(module), module)
        key = (module, last_run.get(module, ""), str(node.target))
        yield Place(*key, seen[key]), node
        seen[key] += 1


def module_of(node: Node) -> str:
    """Qualified name of the module whose forward calls an operator; "" for the root's, or where none is known."""
    stack = node.meta.get("nn_module_stack")
    return str(next(reversed(stack.values()))[0]) if stack else ""


def renamed(path: str, layer_map: Mapping[str, str]) -> str:
    """A module path with its longest mapped beginning replaced."""
    for beginning in (path, *reversed(list(_above(path)))):
        if beginning in layer_map:
            return ".".join(filter(None, (layer_map[beginning], path[len(beginning) :].strip("."))))
    return path


def _above(path: str) -> Iterator[str]:
    """The paths of the modules above, the root "" first."""
    parts = path.split(".") if path else []
    return (".".join(parts[:i]) for i in range(len(parts)))
