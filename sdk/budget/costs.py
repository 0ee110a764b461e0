"""What a network costs to run at other sizes: multiply-adds, weights read and values written, counted on its graph."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from math import prod

from torch import Tensor
from torch.fx import Node

from edgefold.dimensions import DimensionGraph
from edgefold.resizing.layouts import Layout, axis_size, resized_shape
from edgefold.tracing.axis_tracer import LinearRead, sizes

FREE = ("dropout", "alpha_dropout", "to", "contiguous", "detach")
"""Operators that copy at most, beside those whose result is a view of what they take."""
RECURRENT = tuple(f"{kind}{end}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for end in ("", "_cell"))
PAIR_PRODUCTS = ("matmul", "bmm", "scaled_dot_product_attention", "einsum")


@dataclass(frozen=True)
class Cost:
    """Of one forward pass; what a latency is fitted to. All but `parameters` is linear in the operators."""

    macs: float = 0.0
    """Multiply-adds of products with parameters."""
    pair_macs: float = 0.0
    """Multiply-adds of products of two activations: attention."""
    weights: float = 0.0
    """Elements of the parameters that these products read."""
    values: float = 0.0
    """Elements of all floating-point values that are computed, views left out."""
    operators: float = 0.0
    """How many operators compute them."""
    parameters: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Cost)))


class CostCounter:
    """Counts what a traced model would cost with some dimensions at other sizes.

    Args:
        graph: traced on inputs of the sequence length, or image size, that the budget is about.
        batch: for how many rows; the graph has two at least, for torch.export takes one row for a constant.
    """

    def __init__(self, graph: DimensionGraph, batch: int = 1) -> None:
        self._graph = graph
        leading = next(sizes(node)[0] for node in graph.module.graph.nodes if node.op == "placeholder" and sizes(node))
        self._rows = batch / leading

    def count(self, new_sizes: Mapping[str, int] | None = None, ranks: Mapping[str, int] | None = None) -> Cost:
        """The cost of one pass.

        Args:
            new_sizes: dimension -> size; the others stay.
            ranks: parameter -> rank of the factor pair in its place.
        """
        changed, ranks = new_sizes or {}, ranks or {}
        total = Cost(parameters=self._parameters(changed, ranks))
        for node in self._graph.module.graph.nodes:
            if (read := self._reads.get(node)) is not None:
                total += self._read(read, changed, ranks.get(read.parameter))
            elif _computes(node):
                total += self._other(node, changed)
        return total

    @cached_property
    def _reads(self) -> dict[Node, LinearRead]:
        return {read.node: read for read in self._graph.reads}

    def _read(self, read: LinearRead, new_sizes: Mapping[str, int], rank: int | None) -> Cost:
        graph = self._graph
        before, after = self._shape(read.node, {}), self._shape(read.node, new_sizes)
        if _name(read.node) in RECURRENT:
            return self._recurrent(read.node, after, new_sizes)
        layout = graph.layouts[read.parameter]
        shape = resized_shape(layout, new_sizes)
        contracted = shape[read.parameter_axis] / axis_size(layout[read.parameter_axis])
        macs = read.macs * prod(after) / prod(before) * contracted * self._rows
        weights = float(prod(shape))
        values = prod(after) * self._rows
        if rank is None:
            return Cost(macs, 0.0, weights, values, 1.0)
        share = rank * (shape[0] + weights / shape[0]) / weights
        return Cost(macs * share, 0.0, weights * share, values * (1 + rank / shape[0]), 2.0)

    def _recurrent(self, node: Node, after: tuple[int, ...], new_sizes: Mapping[str, int]) -> Cost:
        """Every matrix of every layer and direction is multiplied with in each step."""
        names = [str(each.target) for each in node.all_input_nodes if each.op == "get_attr"]
        shapes = [resized_shape(self._graph.layouts[name], new_sizes) for name in names if name in self._graph.layouts]
        weights = float(sum(prod(shape) for shape in shapes if len(shape) == 2))
        steps = prod(after[:-1]) * self._rows
        return Cost(steps * weights, 0.0, weights, prod(after) * self._rows, 1.0)

    def _other(self, node: Node, new_sizes: Mapping[str, int]) -> Cost:
        values = prod(self._shape(node, new_sizes)) * self._rows
        return Cost(0.0, self._pair_macs(node, values, new_sizes), 0.0, values, 1.0)

    def _pair_macs(self, node: Node, values: float, new_sizes: Mapping[str, int]) -> float:
        """Of products of two activations: for each element of the result, the length of what is summed."""
        name = _name(node)
        if name not in PAIR_PRODUCTS or len(node.all_input_nodes) < 2:
            return 0.0
        first = self._shape(node.all_input_nodes[0], new_sizes)
        if name != "scaled_dot_product_attention":
            return values * first[-1] if first else 0.0
        keys = self._shape(node.all_input_nodes[1], new_sizes)
        scores = values / max(1, self._shape(node, new_sizes)[-1]) * keys[-2]  # rows * heads * queries * keys
        return scores * (first[-1] + self._shape(node, new_sizes)[-1])

    def _shape(self, node: Node, new_sizes: Mapping[str, int]) -> tuple[int, ...]:
        layout: Layout | None = self._graph.node_layouts.get(node)
        if layout is None:
            outputs = self._graph.tuple_layouts.get(node)
            layout = outputs[0] if outputs else None
        return resized_shape(layout, new_sizes) if layout is not None else tuple(sizes(node))

    def _parameters(self, new_sizes: Mapping[str, int], ranks: Mapping[str, int]) -> int:
        total = 0
        for name, parameter in self._graph.module.named_parameters():
            layout = self._graph.layouts.get(name)
            shape = resized_shape(layout, new_sizes) if layout is not None else tuple(parameter.shape)
            count = prod(shape)
            total += ranks[name] * (shape[0] + count // shape[0]) if name in ranks else count
        return total


def _computes(node: Node) -> bool:
    """Whether a node writes floating-point values of its own."""
    value = node.meta.get("val")
    first = value[0] if isinstance(value, tuple | list) and value else value
    if node.op != "call_function" or not isinstance(first, Tensor) or not first.is_floating_point():
        return False
    return not getattr(node.target, "is_view", False) and _name(node) not in FREE and _name(node) != "getitem"


def _name(node: Node) -> str:
    """Such as matmul of aten.matmul.default."""
    packet = getattr(node.target, "_opname", None) or getattr(node.target, "__name__", "")
    return str(packet).rstrip("_")
