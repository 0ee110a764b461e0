"""The traced graph at other sizes: every literal in it that is the size of a resized axis is rewritten.

The way of last resort for sizes that no configuration and no attribute holds, such as `x.view(b, n, 4, 12)` in forward.
What comes out is a plain GraphModule of torch's own operators with the teacher's parameter names, which trains as its
module would: in training dropout is on in it, and batch norms take the statistics of the batch.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from math import gcd
from operator import attrgetter
from typing import Any

import torch
from torch import nn
from torch.fx import Graph, Node

from edgefold.dimensions import DimensionGraph
from edgefold.graphs.modal_graphs import ModalGraph
from edgefold.resizing.layouts import AxisLayout, Layout, axis_size, leading_size, resized_layout, resized_shape
from edgefold.tracing.axis_tracer import argument
from edgefold.tracing.unread_operators import unread_values

aten = torch.ops.aten


def resize_graph(graph: DimensionGraph, sizes: Mapping[str, int]) -> ModalGraph:
    """A copy of the traced module whose literals follow the new sizes; its parameters are zeros of the new shapes."""
    root = _fresh_root(graph, sizes)
    copied, copies = _copied(graph.module.graph)
    for original, node in copies.items():
        rewrite = REWRITES.get(node.target)
        if node.op == "call_function" and rewrite is not None:
            rewrite(node, _Sizes(graph, original, sizes))
    return ModalGraph(root, copied, class_name=type(graph.module).__name__).eval()


def _copied(graph: Graph) -> tuple[Graph, dict[Node, Node]]:
    """A copy that is called as the original is, without what nobody reads, and which node became which."""
    copied, copies = Graph(), dict[Node, Node]()
    unread = unread_values(graph)
    for node in graph.nodes:
        if node not in unread:
            copies[node] = copied.node_copy(node, copies.__getitem__)
    copied._codegen = graph._codegen
    return copied, copies


def _fresh_root(graph: DimensionGraph, sizes: Mapping[str, int]) -> nn.Module:
    """The traced module's parameters and buffers at their new shapes; tied ones stay tied."""
    root = nn.Module()
    made: dict[int, Any] = {}
    tensors = [*graph.module.named_parameters(remove_duplicate=False), *graph.module.named_buffers()]
    layouts = {id(tensor): graph.layouts[name] for name, tensor in tensors if name in graph.layouts}
    for name, tensor in tensors:
        if id(tensor) not in made:
            shape = resized_shape(layouts[id(tensor)], sizes) if id(tensor) in layouts else tuple(tensor.shape)
            same = shape == tuple(tensor.shape)
            value = tensor.detach().clone() if same else torch.zeros(shape, dtype=tensor.dtype, device=tensor.device)
            made[id(tensor)] = nn.Parameter(value, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else value
        _attach(root, name, made[id(tensor)])
    read = {str(node.target) for node in graph.module.graph.nodes if node.op == "get_attr"}
    for name in read - {name for name, _ in tensors}:  # constants of the trace
        _attach(root, name, attrgetter(name)(graph.module))
    return root


def _attach(root: nn.Module, name: str, value: Any) -> None:
    *path, last = name.split(".")
    owner = root
    for part in path:
        if not hasattr(owner, part):
            owner.add_module(part, nn.Module())
        owner = getattr(owner, part)
    if isinstance(value, nn.Parameter):
        owner.register_parameter(last, value)
    else:
        owner.register_buffer(last, value)


class _Sizes:
    """What a rewrite may ask: the layouts of a node and of its operands, before and after."""

    def __init__(self, graph: DimensionGraph, original: Node, sizes: Mapping[str, int]) -> None:
        self._graph = graph
        self._original = original
        self._sizes = sizes

    @property
    def output(self) -> Layout:
        return self._graph.node_layouts.get(self._original, ())

    @property
    def pieces(self) -> Sequence[Layout]:
        """The layouts of all outputs, where there are several."""
        return self._graph.tuple_layouts.get(self._original, ())

    def operand(self, index: int) -> Layout:
        source = self._original.args[index]
        return self._graph.node_layouts.get(source, ()) if isinstance(source, Node) else ()

    def new(self, axis: AxisLayout) -> int:
        return axis_size(resized_layout((axis,), self._sizes)[0])

    def literal(self, value: Any, axis: AxisLayout) -> Any:
        """A literal that states an axis's size, at its new size; anything else as it is."""
        return self.new(axis) if isinstance(value, int) and value == axis_size(axis) else value

    def literals(self, values: Any, axes: Sequence[AxisLayout]) -> list[Any]:
        return [self.literal(value, axis) for value, axis in zip(values, axes, strict=True)]

    def offset(self, axis: AxisLayout, place: int) -> int:
        """Where a place along an axis lies when everything before it has its new size."""
        if place <= 0:
            return place
        if place >= axis_size(axis):
            return self.new(axis) + place - axis_size(axis)
        first, rest = axis[0], axis[1:]
        width = axis_size(rest)
        inner, within = divmod(place, width)
        if within:  # a cut through the middle of a row, which only a size that stays can have
            return self.offset(axis, place - within) + within
        if first.parts:
            before = 0
            for part in first.parts:
                taken = min(inner, axis_size(part))
                before += self.offset(part, taken)
                inner -= taken
            return before * self.new(rest)
        return inner * self.new(rest)

    def leading(self, axis: AxisLayout, product: int) -> int:
        return leading_size(axis, product, self._sizes)


def _shape_at(index: int) -> Callable[[Node, _Sizes], None]:
    """The shape argument of view, expand, zeros, ...: one literal for each output axis, or arithmetic of sizes."""

    def rewrite(node: Node, sizes: _Sizes) -> None:
        shape = list(node.args[index])  # type: ignore[arg-type]
        if len(shape) != len(sizes.output):
            return
        shape = sizes.literals(shape, sizes.output)
        for i, (size, axis) in enumerate(zip(shape, sizes.output, strict=True)):
            if isinstance(size, Node) and sizes.new(axis) != axis_size(axis):
                shape[i] = _scaled(node, size, sizes.new(axis), axis_size(axis))
        node.update_arg(index, shape)

    return rewrite


def _scaled(node: Node, size: Node, new: int, old: int) -> Node:
    """A size of which one factor is that of the batch, as in batch * heads, times new / old."""
    shared = gcd(new, old)
    with node.graph.inserting_before(node):
        product = node.graph.call_function(operator.mul, (size, new // shared))
        return node.graph.call_function(operator.floordiv, (product, old // shared))


def _normalized_shape(node: Node, sizes: _Sizes) -> None:
    shape = list(node.args[1])  # type: ignore[arg-type]
    node.update_arg(1, sizes.literals(shape, sizes.output[-len(shape) :]))


def _unflatten(node: Node, sizes: _Sizes) -> None:
    if not sizes.operand(0):  # a constant, which has no dimensions
        return
    shape = list(node.args[2])  # type: ignore[arg-type]
    dim = int(node.args[1]) % len(sizes.operand(0))  # type: ignore[arg-type]
    node.update_arg(2, sizes.literals(shape, sizes.output[dim : dim + len(shape)]))


def _split(node: Node, sizes: _Sizes) -> None:
    """split and chunk, with the sizes of their pieces spelled out."""
    if not sizes.pieces:
        return
    dim = int(argument(node, 2, "dim", 0))
    node.target = aten.split_with_sizes.default
    node.args = (node.args[0], [sizes.new(piece[dim]) for piece in sizes.pieces], dim)
    node.kwargs = {}


def _slice(node: Node, sizes: _Sizes) -> None:
    if not sizes.operand(0):
        return
    axis = sizes.operand(0)[int(argument(node, 1, "dim", 0)) % len(sizes.operand(0))]
    begins_in_turn = argument(node, 4, "step", 1) != 1  # a start that says whose turn it is, not where a piece begins
    for index in (3,) if begins_in_turn else (2, 3):
        place = node.args[index] if len(node.args) > index else None
        if isinstance(place, int) and 0 <= place <= axis_size(axis):
            node.update_arg(index, sizes.offset(axis, place))
        elif isinstance(place, int) and place < 0:
            node.update_arg(index, sizes.offset(axis, axis_size(axis) + place) - sizes.new(axis))


def _narrow(node: Node, sizes: _Sizes) -> None:
    if not sizes.operand(0):
        return
    dim, start, length = (int(arg) for arg in node.args[1:4])  # type: ignore[arg-type]
    axis = sizes.operand(0)[dim % len(sizes.operand(0))]
    begin, end = sizes.offset(axis, start), sizes.offset(axis, start + length)
    node.args = (node.args[0], dim, begin, end - begin)


def _groups(index: int) -> Callable[[Node, _Sizes], None]:
    """The number of groups of a convolution or group norm, which leads its input channels."""

    def rewrite(node: Node, sizes: _Sizes) -> None:
        if len(node.args) > index and sizes.operand(0):
            node.update_arg(index, sizes.leading(sizes.operand(0)[1], int(node.args[index])))  # type: ignore[arg-type]

    return rewrite


def _repeat_interleave(node: Node, sizes: _Sizes) -> None:
    if not sizes.operand(0):
        return
    dim = int(argument(node, 2, "dim", 0))
    node.update_arg(1, sizes.new(sizes.output[dim]) // sizes.new(sizes.operand(0)[dim]))


def _attention(node: Node, sizes: _Sizes) -> None:
    """The scale that the old head size implies is spelled out."""
    if not sizes.operand(0):
        return
    size = axis_size(sizes.operand(0)[-1])
    if node.kwargs.get("scale") is None and sizes.new(sizes.operand(0)[-1]) != size:
        node.kwargs = {**node.kwargs, "scale": size**-0.5}


REWRITES: dict[Any, Callable[[Node, _Sizes], None]] = {
    **dict.fromkeys(
        (
            aten.view.default,
            aten.reshape.default,
            aten._unsafe_view.default,
            aten.expand.default,
            aten.broadcast_to.default,
            aten.new_zeros.default,
            aten.new_ones.default,
            aten.new_full.default,
            aten.new_empty.default,
        ),
        _shape_at(1),
    ),
    **dict.fromkeys((aten.zeros.default, aten.ones.default, aten.full.default, aten.empty.memory_format), _shape_at(0)),
    aten.layer_norm.default: _normalized_shape,
    aten.rms_norm.default: _normalized_shape,
    aten.unflatten.int: _unflatten,
    **dict.fromkeys((aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default, aten.chunk.default), _split),
    aten.slice.Tensor: _slice,
    aten.narrow.default: _narrow,
    **dict.fromkeys((aten.conv1d.default, aten.conv2d.default, aten.conv3d.default), _groups(6)),
    **dict.fromkeys((aten.conv1d.padding, aten.conv2d.padding), _groups(6)),
    **dict.fromkeys((aten.conv_transpose1d.default, aten.conv_transpose2d.input), _groups(6)),
    aten.group_norm.default: _groups(1),
    aten.repeat_interleave.self_int: _repeat_interleave,
    aten.scaled_dot_product_attention.default: _attention,
}
"""Operator -> how its literals follow."""
