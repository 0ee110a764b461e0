"""Replay: run a traced graph a stretch at a time over all batches, with weights that may change in between."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgefold.calibration import Batch


class Replay:
    """The values of a graph at one point of its execution, for every batch.

    Resident is, per batch, what a later node still reads, and what is held: a value is freed after its last use.

    Args:
        held: nodes whose values are kept, once computed, until each was released as often as it is named.
    """

    def __init__(self, module: GraphModule, batches: Sequence[Batch], held: Iterable[Node] = ()) -> None:
        self.weights = _own_weights(module)
        """Every parameter, buffer and constant by name, as copies of our own: change them in place."""
        self.order = {node: i for i, node in enumerate(module.graph.nodes)}
        self._nodes = list(self.order)
        self._next = 0
        self._held = Counter(held)
        self._freed = _freed_after(module)
        self._runs = [_Run(module, batch, self.weights) for batch in batches]

    def run_until(self, node: Node) -> None:
        """Run every node that stands before this one."""
        self._advance(self.order[node])

    def run_through(self, node: Node) -> None:
        """Run this node too."""
        self._advance(self.order[node] + 1)

    def value(self, batch: int, node: Node) -> Any:
        """What a node computed; it must be held, or still be read by a node to come."""
        run = self._runs[batch]
        return run.held[node] if node in run.held else run.env[node]

    def attempt(self, batch: int, path: Sequence[Node]) -> Tensor:
        """The value at the end of a path of nodes to come, under the weights of now, without going on."""
        run = self._runs[batch]
        with torch.no_grad():
            for node in path:
                run.env[node] = run.run_node(node)
        result: Tensor = run.env[path[-1]]
        for node in path:
            del run.env[node]
        return result

    def release(self, node: Node) -> None:
        self._held[node] -= 1
        if self._held[node] <= 0:
            for run in self._runs:
                run.held.pop(node, None)

    def _advance(self, end: int) -> None:
        stretch = self._nodes[self._next : end]
        self._next = max(self._next, end)
        with torch.no_grad():
            for run in self._runs if stretch else ():
                for node in stretch:
                    self._step(run, node)

    def _step(self, run: "_Run", node: Node) -> None:
        value = run.env[node] = run.run_node(node)
        if self._held[node] > 0:
            run.held[node] = value.clone() if any(changes_in_place(user) for user in node.users) else value
        for dead in self._freed.get(node, ()):
            del run.env[dead]


class _Run(Interpreter):
    """One batch: its values so far."""

    def __init__(self, module: GraphModule, batch: Batch, weights: Mapping[str, Tensor]) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.extra_traceback = False
        self.held: dict[Node, Any] = {}
        self._batch = batch
        self._weights = weights

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._batch[target]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._weights[target]


def changes_in_place(node: Node) -> bool:
    """Whether an operator writes into an operand."""
    schema = getattr(node.target, "_schema", None)
    return bool(schema is not None and schema.is_mutable)


def _own_weights(module: GraphModule) -> dict[str, Any]:
    """Copies; two names of one tensor share theirs. The graphs of branches and regions are themselves."""
    names = [str(node.target) for node in module.graph.nodes if node.op == "get_attr"]
    held = {name: attrgetter(name)(module) for name in names}
    copies = {id(it): it.detach().clone() if isinstance(it, Tensor) else it for it in held.values()}
    return {name: copies[id(it)] for name, it in held.items()}


def _freed_after(module: GraphModule) -> dict[Node, list[Node]]:
    """For each node: the values that nothing reads after it."""
    last = {node: node for node in module.graph.nodes}
    for node in module.graph.nodes:
        last |= dict.fromkeys(node.all_input_nodes, node)
    freed: dict[Node, list[Node]] = {}
    for node, user in last.items():
        freed.setdefault(user, []).append(node)
    return freed
