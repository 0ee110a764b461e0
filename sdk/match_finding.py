"""Which values of a student can be held against its teacher's, found in the traced graph that both come from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from edgefold.dimensions import DimensionGraph
from edgefold.graphs.taps import ends, insert_tap, module_paths
from edgefold.matches import AttentionMatch, Match, Part
from edgefold.projections import Map, Selection
from edgefold.resizing.layouts import AxisLayout, axis_names, axis_size, resized_layout
from edgefold.structure.layer_dropping import path_before
from edgefold.structure.restructuring import Restructured
from edgefold.structure.stacks import Stack, find_stacks


@dataclass
class MatchFinder:
    """Looks for matches in the teacher's graph (after layers were dropped and shared), which the student follows.

    Where the student is a traced graph itself, whatever matches is tapped, in place, so that hooks see it.
    """

    graph: DimensionGraph
    student: nn.Module
    reduced: Restructured
    scales: Mapping[str, Tensor] = field(default_factory=dict)
    """Of norms, by the name of their weight: what the student has in the norm's readers instead."""

    def __post_init__(self) -> None:
        self._ends = ends(self.graph.module.graph.nodes)
        self._stacks = find_stacks(self.reduced.module)
        self._taps: dict[str, str] = {}

    def hidden(self) -> tuple[Match, ...]:
        """Where hidden states can be compared: the norms along each linear dimension, or its writers without any."""
        norms = [norm.weight for norm in self.graph.norms if norm.weight]
        writers = [read.parameter for read in self.graph.reads]
        scales = {weight.rpartition(".")[0]: scale for weight, scale in self.scales.items()}
        found: dict[Match, None] = {}
        for dimension in self.graph.dimensions:
            if dimension.kind != "linear":
                continue
            for parameters in (norms, writers):
                paths = dict.fromkeys(parameter.rpartition(".")[0] for parameter in parameters)
                matched = [path for path in paths if self._ends_along(path, dimension.name)]
                for path in matched:
                    matches = (self._match(place, dimension.name) for place in self._runs(path))
                    found |= {replace(match, scale=scales.get(path)): None for match in matches}
                if matched:
                    break
        return tuple(found)

    def entrance(self) -> Match | None:
        """What enters the first layer of the longest stack: the embeddings, in a linear dimension."""
        stack = max(self._stacks, key=lambda stack: stack.depth, default=None)
        if stack is None:
            return None
        first = stack.layer(0)
        for node in self._entering(first):
            dimension = _last_dimension(self.graph, node)
            if dimension and self.graph[dimension].kind == "linear":
                place = self._place(f"> {first}", node, first)
                return Match(place, dimension, f"> {first}")
        return None

    def attentions(self, maps: Mapping[str, Map]) -> tuple[AttentionMatch, ...]:
        """The attention of each layer: the products that write heads, and which heads are left of each."""
        sizes = {name: map.size for name, map in maps.items()}
        found: dict[str, list[tuple[Part, Part]]] = {}
        heads: dict[str, tuple[int, ...]] = {}
        for read in self.graph.reads:
            path = read.parameter.rpartition(".")[0]
            layer, end = self._layer(path), self._ends.get(path)
            layout = self.graph.node_layouts.get(end, ()) if end is not None else ()
            if end is None or not layout or not self._has_heads(layout[-1]):
                continue
            place = self._place(path, end, path)
            for axis, start, new_start in _summands(layout[-1], sizes):
                if not self._has_heads(axis):
                    continue
                size, new_size = axis_size(axis), axis_size(resized_layout((axis,), sizes)[0])
                teacher = Part(self._before(path), start, start + size)
                found.setdefault(layer, []).append((Part(place, new_start, new_start + new_size), teacher))
                heads[layer] = max(heads.get(layer, ()), self._kept_heads(axis, maps), key=len)
        return tuple(
            AttentionMatch(layer, self._before(layer), tuple(dict.fromkeys(parts)), heads[layer])
            for layer, parts in found.items()
        )

    def _has_heads(self, axis: AxisLayout) -> bool:
        return any(self.graph[name].kind == "heads" for name in axis_names(axis))

    def _kept_heads(self, axis: AxisLayout, maps: Mapping[str, Map]) -> tuple[int, ...]:
        """Of all heads along an axis (groups, and queries in each), those that selections keep."""
        factors = [factor for factor in axis if factor.dimension and self.graph[factor.dimension].kind == "heads"]
        grid = torch.arange(axis_size(factors)).reshape([factor.size for factor in factors])
        for position, factor in enumerate(factors):
            if isinstance(selection := maps.get(factor.dimension), Selection):
                grid = grid.index_select(position, selection.indices)
        return tuple(grid.flatten().tolist())

    def _ends_along(self, path: str, dimension: str) -> bool:
        end = self._ends.get(path)
        return bool(path) and end is not None and _last_dimension(self.graph, end) == dimension

    def _runs(self, path: str) -> Iterator[str]:
        """The path, and where the owner of shared parameters matches, those of its sharers."""
        yield path
        for sharer, owner in self.reduced.shared.items():
            if path.startswith(f"{owner}."):
                yield sharer + path[len(owner) :]

    def _match(self, path: str, dimension: str) -> Match:
        return Match(self._place(path, self._ends.get(path), path), dimension, self._before(path))

    def _before(self, path: str) -> str:
        return path_before(path, self.reduced.layers)

    def _layer(self, path: str) -> str:
        """The layer of a stack that a module belongs to; "" if none."""
        layers = (layer for stack in self._stacks for layer in _layers(stack))
        return next((layer for layer in layers if f"{path}.".startswith(f"{layer}.")), "")

    def _entering(self, path: str) -> Iterator[Node]:
        """The values from outside that a module's first operators read, in their order."""
        for node in self.graph.module.graph.nodes:
            if path in module_paths(node):
                yield from (source for source in node.all_input_nodes if path not in module_paths(source))

    def _place(self, place: str, node: Node | None, path: str) -> str:
        """The place itself, or in a traced student the tap of the node that stands there."""
        if not isinstance(self.student, GraphModule) or node is None:
            return place
        if place not in self._taps:
            own = next(mine for mine in self.student.graph.nodes if mine.name == node.name)
            self._taps[place] = insert_tap(self.student, own, path)
        return self._taps[place]


def _summands(axis: AxisLayout, sizes: Mapping[str, int]) -> Iterator[tuple[AxisLayout, int, int]]:
    """The parts of an axis that lie one after the other, and where each begins before and after resizing."""
    start = new_start = 0
    for part in axis[0].parts if len(axis) == 1 and axis[0].parts else (axis,):
        yield part, start, new_start
        start += axis_size(part)
        new_start += axis_size(resized_layout((part,), sizes)[0])


def _layers(stack: Stack) -> list[str]:
    return [stack.layer(index) for index in range(stack.depth)]


def _last_dimension(graph: DimensionGraph, node: Node) -> str:
    layout = graph.node_layouts.get(node)
    return layout[-1][0].dimension if layout and len(layout[-1]) == 1 else ""
