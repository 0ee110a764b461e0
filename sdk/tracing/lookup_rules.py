"""Rules of operators that find or write values at places that indices name: tables, gather and scatter."""

from typing import Any

from torch.fx import Node

from edgefold.tracing.axis_tracer import Axes, AxisTracer, all_sizes, argument, pad_axes, place, sizes
from edgefold.tracing.elementwise_rules import unknown


def embedding(tracer: AxisTracer, node: Node) -> Axes:
    """W[ids], W: (rows, d)."""
    weight, ids = tracer.of(node.args[0]), tracer.of(node.args[1])
    _look_up(tracer, node, node.args[0], node.args[1])
    return [*ids, weight[1]]


def embedding_bag(tracer: AxisTracer, node: Node) -> None:
    """The sum or mean of looked-up rows: (bags, d) and three outputs that nobody differentiates."""
    weight = tracer.of(node.args[0])
    _look_up(tracer, node, node.args[0], node.args[1])
    first, *others = all_sizes(node)
    tracer.tuples[node] = [
        [tracer.spaces.new(first[0]), weight[1]],
        *([tracer.spaces.new(size) for size in shape] for shape in others),
    ]


def _look_up(tracer: AxisTracer, node: Node, table: Any, ids: Any) -> None:
    tracer.spaces.mark_fixed(tracer.of(table)[0], "rows of a look-up table")
    name = tracer.parameters.get(table)
    if name is not None and isinstance(ids, Node):
        tracer.lookups.append((node, name, ids))


def index(tracer: AxisTracer, node: Node) -> Axes:
    """x[:, ids, ...]: indexed axes are bound to their order; what indexes them stands in their place."""
    x = list(tracer.of(node.args[0]))
    indices: list[Any] = list(node.args[1])  # type: ignore[arg-type]
    places = [i for i, ids in enumerate(indices) if ids is not None]
    for i in places:
        tracer.spaces.mark_fixed(x[i], f"indexed by {place(node)}")
    rank = max(len(tracer.of(indices[i])) for i in places)
    by: Axes = [()] * rank
    for i in places:
        for k, axis in enumerate(pad_axes(tracer.of(indices[i]), rank)):
            by[k] = by[k] or axis
    adjacent = places == list(range(places[0], places[-1] + 1))
    rest = [axis for i, axis in enumerate(x) if i not in places]
    start = places[0] if adjacent else 0
    result = [*rest[:start], *by, *rest[start:]]
    if [tracer.spaces.size(axis) for axis in result] != sizes(node):  # a mask picks an unknown number
        return unknown(tracer, node)
    return result


def index_select(tracer: AxisTracer, node: Node) -> Axes:
    """index_select(x, dim, ids)."""
    x = list(tracer.of(node.args[0]))
    dim = int(node.args[1]) % len(x)  # type: ignore[arg-type]
    tracer.spaces.mark_fixed(x[dim], f"indexed by {place(node)}")
    x[dim] = tracer.of(node.args[2])[0]
    return x


def gather(tracer: AxisTracer, node: Node) -> Axes:
    """gather(x, dim, ids): along the other axes ids and x carry the same coordinates."""
    x, ids = tracer.of(node.args[0]), list(tracer.of(node.args[2]))
    dim = int(node.args[1]) % len(x)  # type: ignore[arg-type]
    tracer.spaces.mark_fixed(x[dim], f"indexed by {place(node)}")
    for i, (axis, by) in enumerate(zip(x, ids, strict=True)):
        if i != dim:
            tracer.spaces.unify(axis, by, place(node))
    return ids


def scatter_at(tracer: AxisTracer, node: Node) -> Axes:
    """scatter(x, dim, ids, values): along the other axes ids, values and x carry the same coordinates."""
    x = tracer.of(node.args[0])
    dim = int(node.args[1]) % len(x)  # type: ignore[arg-type]
    tracer.spaces.mark_fixed(x[dim], f"written in part by {place(node)}")
    for operand in node.args[2:4]:
        for i, (axis, by) in enumerate(zip(x, tracer.of(operand), strict=False)):
            if i != dim:
                tracer.spaces.unify(axis, by, place(node))
                tracer.spaces.mark_nonlinear(axis)
    return list(x)


def index_add(tracer: AxisTracer, node: Node) -> Axes:
    """index_add(x, dim, ids, source): along the other axes source and x carry the same coordinates."""
    x, source = tracer.of(node.args[0]), tracer.of(node.args[3])
    dim = int(node.args[1]) % len(x)  # type: ignore[arg-type]
    tracer.spaces.mark_fixed(x[dim], f"added to by {place(node)}")
    for i, (axis, by) in enumerate(zip(x, source, strict=True)):
        if i != dim:
            tracer.spaces.unify(axis, by, place(node))
    return list(x)


def index_put(tracer: AxisTracer, node: Node) -> Axes:
    """x with values put at indexed places: the indexed axes are bound to their order."""
    x = tracer.of(node.args[0])
    indices: list[Any] = list(node.args[1])  # type: ignore[arg-type]
    places = [i for i, ids in enumerate(indices) if ids is not None]
    for i in places:
        tracer.spaces.mark_fixed(x[i], f"indexed by {place(node)}")
    values, last = tracer.of(node.args[2]), (places or [-1])[-1]
    for axis, value in zip(x[last + 1 :][::-1], values[::-1], strict=False):
        if value != ():
            tracer.spaces.unify(axis, value, place(node))
        else:
            tracer.spaces.mark_nonlinear(axis)
    return list(x)


def scatter(tracer: AxisTracer, node: Node) -> Axes:
    """slice_scatter, select_scatter: written over in part; order and size stay."""
    x = tracer.of(node.args[0])
    dim = int(argument(node, 2, "dim", 0)) % len(x)
    tracer.spaces.mark_fixed(x[dim], f"written in part by {place(node)}")
    source = list(tracer.of(node.args[1]))
    if len(source) == len(x) - 1:
        source.insert(dim, ())
    for i, (axis, value) in enumerate(zip(x, source, strict=True)):
        if i != dim:
            tracer.spaces.unify(axis, value, place(node))
    return list(x)
