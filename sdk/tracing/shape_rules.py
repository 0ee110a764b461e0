"""Rules of operators that move values without changing them: reshape, permute, split, join."""

from typing import Any

from torch.fx import Node

from edgefold.tracing.axes import Axis
from edgefold.tracing.axis_tracer import Axes, AxisTracer, all_sizes, argument, pad_axes, place, sizes
from edgefold.tracing.elementwise_rules import unknown


def reshape(tracer: AxisTracer, node: Node) -> Axes:
    """view, reshape, flatten, unflatten."""
    return tracer.spaces.reshape(tracer.of(node.args[0]), sizes(node), place(node))


def reshape_like(tracer: AxisTracer, node: Node) -> Axes:
    """view_as, reshape_as: the axes stay of one size with those of the other tensor."""
    result = reshape(tracer, node)
    tracer.unify_all(result, tracer.of(node.args[1]), place(node))
    return result


def permute(tracer: AxisTracer, node: Node) -> Axes:
    return _reorder(tracer, node, [int(dim) for dim in node.args[1]])  # type: ignore[arg-type,union-attr]


def move(tracer: AxisTracer, node: Node) -> Axes:
    """movedim(x, source, destination)."""
    rank = len(tracer.of(node.args[0]))
    given: list[Any] = list(node.args[1:3])
    source, destination = ([dim % rank for dim in ([dims] if isinstance(dims, int) else dims)] for dims in given)
    rest = iter([dim for dim in range(rank) if dim not in source])
    return _reorder(
        tracer, node, [source[destination.index(i)] if i in destination else next(rest) for i in range(rank)]
    )


def transpose(tracer: AxisTracer, node: Node) -> Axes:
    order = list(range(len(tracer.of(node.args[0]))))
    i, j = (-1, -2) if len(node.args) < 3 else (node.args[1], node.args[2])
    if len(order) > 1:
        order[i], order[j] = order[j], order[i]  # type: ignore[index]
    return _reorder(tracer, node, order)


def reversed_axes(tracer: AxisTracer, node: Node) -> Axes:
    """x.T of any rank."""
    return _reorder(tracer, node, list(range(len(tracer.of(node.args[0]))))[::-1])


def _reorder(tracer: AxisTracer, node: Node, order: list[int]) -> Axes:
    """Permute axes; a permuted parameter stays known as that parameter."""
    source = node.args[0]
    assert isinstance(source, Node)
    x = tracer.of(source)
    order = [dim % len(x) for dim in order]
    if source in tracer.parameters:
        before = tracer.orders.get(source, tuple(range(len(x))))
        tracer.parameters[node] = tracer.parameters[source]
        tracer.orders[node] = tuple(before[dim] for dim in order)
    return [x[dim] for dim in order]


def unsqueeze(tracer: AxisTracer, node: Node) -> Axes:
    x = list(tracer.of(node.args[0]))
    dim = int(node.args[1])  # type: ignore[arg-type]
    x.insert(dim if dim >= 0 else len(x) + 1 + dim, ())
    return x


def squeeze(tracer: AxisTracer, node: Node) -> Axes:
    x = tracer.of(node.args[0])
    dims = argument(node, 1, "dim")
    chosen = range(len(x)) if dims is None else [dims] if isinstance(dims, int) else dims
    gone = {dim % len(x) for dim in chosen if x[dim] == ()}
    return [axis for i, axis in enumerate(x) if i not in gone]


def expand(tracer: AxisTracer, node: Node) -> Axes:
    """Copies along axes of size 1."""
    shape = sizes(node)
    x = pad_axes(list(tracer.of(node.args[0])), len(shape))
    return [axis if axis != () else tracer.spaces.new(size) for axis, size in zip(x, shape, strict=True)]


def repeat(tracer: AxisTracer, node: Node) -> Axes:
    """Whole copies one after the other: an axis becomes copies x axis."""
    shape = sizes(node)
    x = pad_axes(list(tracer.of(node.args[0])), len(shape))
    result: Axes = []
    for axis, size in zip(x, shape, strict=True):
        copies = size // max(1, tracer.spaces.size(axis))
        result.append((*tracer.spaces.new(copies, f"copies made by {place(node)}" if axis else None), *axis))
    return result


def repeat_interleave(tracer: AxisTracer, node: Node) -> Axes:
    """Each coordinate several times: an axis becomes axis x copies."""
    x, dim = list(tracer.of(node.args[0])), argument(node, 2, "dim")
    if dim is None or not isinstance(node.args[1], int):
        return unknown(tracer, node)
    x[dim] = (*x[dim], *tracer.spaces.new(node.args[1]))
    return x


def take(tracer: AxisTracer, node: Node) -> Axes:
    """slice(x, dim, start, end, step): a piece of the axis, unless all of it is taken, or every step-th coordinate."""
    x = list(tracer.of(node.args[0]))
    dim = int(argument(node, 1, "dim", 0)) % len(x)
    whole, kept = sizes(node.args[0])[dim], sizes(node)[dim]
    if kept == whole:
        return x
    start, step = argument(node, 2, "start", 0) or 0, argument(node, 4, "step", 1)
    if isinstance(start, int) and isinstance(step, int) and step > 1 and 0 <= start < step and kept * step == whole:
        x[dim], by_turns = tracer.spaces.reshape([x[dim]], [kept, step], place(node), has_heads=False)
        tracer.spaces.mark_fixed(by_turns, f"taken by turns by {place(node)}")
        return x
    if not isinstance(start, int) or step != 1 or not isinstance(argument(node, 3, "end", whole), int | type(None)):
        x[dim] = _piece_of_unknown_place(tracer, node, x[dim], kept)
        return x
    start = max(0, start + whole if start < 0 else start)
    x[dim] = tracer.spaces.cut(x[dim], [start, kept, whole - start - kept], place(node))[1]
    return x


def narrow(tracer: AxisTracer, node: Node) -> Axes:
    """narrow(x, dim, start, length)."""
    x = list(tracer.of(node.args[0]))
    dim, start = int(node.args[1]) % len(x), node.args[2]  # type: ignore[arg-type]
    whole, kept = sizes(node.args[0])[dim], sizes(node)[dim]
    if not isinstance(start, int):
        x[dim] = _piece_of_unknown_place(tracer, node, x[dim], kept)
        return x
    start = start % whole
    x[dim] = tracer.spaces.cut(x[dim], [start, kept, whole - start - kept], place(node))[1]
    return x


def select(tracer: AxisTracer, node: Node) -> Axes:
    """select(x, dim, index): one coordinate of an axis."""
    x = tracer.of(node.args[0])
    dim = int(argument(node, 1, "dim", 0)) % len(x)
    tracer.spaces.mark_fixed(x[dim], f"indexed by {place(node)}")
    return [axis for i, axis in enumerate(x) if i != dim]


def _piece_of_unknown_place(tracer: AxisTracer, node: Node, axis: Axis, size: int) -> Axis:
    reason = f"cut by {place(node)}"
    tracer.spaces.mark_fixed(axis, reason)
    return tracer.spaces.new(size, reason)


def split(tracer: AxisTracer, node: Node) -> None:
    """split, chunk, tensor_split: pieces of one axis."""
    x = tracer.of(node.args[0])
    pieces = all_sizes(node)
    dim = int(argument(node, 2, "dim", 0)) % len(x)
    axes = tracer.spaces.cut(x[dim], [piece[dim] for piece in pieces], place(node))
    tracer.tuples[node] = [[*x[:dim], axis, *x[dim + 1 :]] for axis in axes]


def unbind(tracer: AxisTracer, node: Node) -> None:
    """unbind(x, dim): every coordinate of an axis by itself."""
    x = tracer.of(node.args[0])
    dim = int(argument(node, 1, "dim", 0)) % len(x)
    tracer.spaces.mark_fixed(x[dim], f"taken apart by {place(node)}")
    rest = [axis for i, axis in enumerate(x) if i != dim]
    tracer.tuples[node] = [list(rest) for _ in all_sizes(node)]


def item(tracer: AxisTracer, node: Node) -> Axes | None:
    """One of several outputs."""
    source, index = node.args[0], node.args[1]
    if not isinstance(source, Node) or source not in tracer.tuples:
        return unknown(tracer, node) if sizes(node) else None
    return list(tracer.tuples[source][index])  # type: ignore[index]


def concatenate(tracer: AxisTracer, node: Node) -> Axes:
    """cat(tensors, dim): the direct sum along one axis; along the others they carry the same coordinates."""
    operands = [tracer.of(arg) for arg in node.args[0] if sizes(arg) != [0]]  # type: ignore[union-attr]
    dim = int(argument(node, 1, "dim", 0)) % len(operands[0])
    result = list(operands[0])
    for other in operands[1:]:
        for i, axis in enumerate(other):
            if i != dim:
                tracer.spaces.unify(result[i], axis, place(node))
    result[dim] = tracer.spaces.concatenate([axes[dim] for axes in operands])
    return result


def stack(tracer: AxisTracer, node: Node) -> Axes:
    """stack(tensors, dim): a new axis of their number."""
    operands = [tracer.of(arg) for arg in node.args[0]]  # type: ignore[union-attr]
    for other in operands[1:]:
        tracer.unify_all(operands[0], other, place(node))
    dim = int(argument(node, 1, "dim", 0)) % (len(operands[0]) + 1)
    count = tracer.spaces.new(len(operands), f"stacked by {place(node)}")
    return [*operands[0][:dim], count, *operands[0][dim:]]


def pad(tracer: AxisTracer, node: Node) -> Axes:
    """Padding: the padded axes are new, the others pass."""
    x, before, after = tracer.of(node.args[0]), sizes(node.args[0]), sizes(node)
    return [
        axis if was == now else _piece_of_unknown_place(tracer, node, axis, now)
        for axis, was, now in zip(x, before, after, strict=True)
    ]
