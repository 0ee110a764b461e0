"""Rules of operators that work element by element, and of reductions: what runs along an axis through them."""

from typing import Any

import torch
from torch.fx import Node

from edgefold.tracing.axis_tracer import Axes, AxisTracer, all_sizes, argument, broadcast, pad_axes, place, sizes

aten = torch.ops.aten


def pointwise(tracer: AxisTracer, node: Node) -> Axes:
    """f(x, y, ...) element by element: permutations commute with it, other maps do not."""
    _, result = broadcast(tracer, node)
    _mark(tracer, node, result)
    return result


def prelu(tracer: AxisTracer, node: Node) -> Axes:
    """A slope for each channel, which is axis 1 wherever the last one is, or one for all."""
    x, slope = list(tracer.of(node.args[0])), tracer.of(node.args[1])
    if len(x) > 1 and slope and slope[0] != ():
        tracer.spaces.unify(x[1], slope[0], place(node))
    _mark(tracer, node, x)
    return x


def add(tracer: AxisTracer, node: Node) -> Axes:
    """x + y is linear; x + 3 is not (it adds the vector of threes), but x + 0, with which a sum() begins, is."""
    if not all(isinstance(arg, Node) for arg in node.args[:2]):
        return same(tracer, node) if node.args[1] == 0 else pointwise(tracer, node)
    operands, result = broadcast(tracer, node)
    _mark(tracer, node, [axis for i, axis in enumerate(result) if any(axes[i] == () for axes in operands)])
    return result


def multiply(tracer: AxisTracer, node: Node) -> Axes:
    """x * y: gating where both vary; linear along an axis that only one of them has."""
    operands, result = broadcast(tracer, node)
    _mark(tracer, node, [axis for i, axis in enumerate(result) if sum(axes[i] != () for axes in operands) > 1])
    return result


def divide(tracer: AxisTracer, node: Node) -> Axes:
    """x / y: as `multiply`, but the divisor's own axes see a reciprocal."""
    result = multiply(tracer, node)
    _mark(tracer, node, tracer.of(node.args[1]))
    return result


def gated_half(tracer: AxisTracer, node: Node) -> Axes:
    """glu(x, dim): the first half of an axis times the sigmoid of the second."""
    x = list(tracer.of(node.args[0]))
    dim = int(argument(node, 1, "dim", -1)) % len(x)
    half = sizes(node)[dim]
    values, gates = tracer.spaces.cut(x[dim], [half, half], place(node))
    tracer.spaces.unify(values, gates, place(node))
    tracer.spaces.mark_nonlinear(values)
    x[dim] = values
    return x


def masked_fill(tracer: AxisTracer, node: Node) -> Axes:
    """Zeros in the masked places are linear along an axis that the mask does not have."""
    _, result = broadcast(tracer, node)
    mask = pad_axes(tracer.of(node.args[1]), len(result))
    fills_zero = isinstance(node.args[2], int | float) and node.args[2] == 0
    _mark(tracer, node, [axis for i, axis in enumerate(result) if mask[i] != () or not fills_zero])
    return result


def where(tracer: AxisTracer, node: Node) -> Axes:
    """A choice between two values, linear along an axis that the condition does not have."""
    _, result = broadcast(tracer, node)
    condition = pad_axes(tracer.of(node.args[0]), len(result))
    linear = all(value == 0 or (isinstance(value, Node) and tracer.of(value)) for value in node.args[1:3])
    _mark(tracer, node, [axis for i, axis in enumerate(result) if condition[i] != () or not linear])
    return result


def same(tracer: AxisTracer, node: Node) -> Axes:
    """The first operand, its axes untouched."""
    return list(tracer.of(node.args[0]))


def copied(tracer: AxisTracer, node: Node) -> Axes:
    """x.copy_(source): the coordinates of x, of which some are written through views, are those of the source."""
    x = tracer.of(node.args[0])
    for axis, source in zip(x, pad_axes(tracer.of(node.args[1]), len(x)), strict=True):
        if source != ():
            tracer.spaces.unify(axis, source, place(node))
        else:
            tracer.spaces.mark_nonlinear(axis)
    return list(x)


def nothing(tracer: AxisTracer, node: Node) -> None:
    """Not a tensor, or nobody reads it."""


def filled(tracer: AxisTracer, node: Node) -> Axes:
    """A tensor of one value: it can be made at any size, and unless it is zero only permutations leave it alone."""
    axes = [tracer.spaces.new(size) for size in sizes(node)]
    value = argument(node, 2 if "new_full" in str(node.target) else 1, "fill_value", None)
    if not ("zeros" in str(node.target) or ("full" in str(node.target) and value == 0)):
        for axis in axes:
            tracer.spaces.mark_nonlinear(axis)
    return axes


def constant(tracer: AxisTracer, node: Node) -> Axes:
    """A tensor made in forward whose values depend on the place: nothing of it can be resized."""
    return [tracer.spaces.new(size, f"made in forward by {place(node)}") for size in sizes(node)]


def unknown(tracer: AxisTracer, node: Node) -> Axes:
    """No rule: whatever it touches keeps its size."""
    reason = f"no rule for {place(node)}"
    for source in node.all_input_nodes:
        for axes in tracer.tuples.get(source, [tracer.of(source)]):
            for axis in axes:
                tracer.spaces.mark_fixed(axis, reason)
    return [tracer.spaces.new(size, reason) for size in sizes(node)]


def reduction(tracer: AxisTracer, node: Node) -> Axes:
    """sum, mean, amax, ... over some axes: they do not depend on the order of the coordinates."""
    return _reduced(tracer, node, len(sizes(node)))


def reduction_with_places(tracer: AxisTracer, node: Node) -> None:
    """max(x, dim), min(x, dim) -> values and where they stand."""
    axes = _reduced(tracer, node, len(all_sizes(node)[0]))
    tracer.tuples[node] = [axes, list(axes)]


def _reduced(tracer: AxisTracer, node: Node, rank: int) -> Axes:
    """The axes that are left, and those of size 1 that stand for the others where the rank stays."""
    x = tracer.of(node.args[0])
    dims = argument(node, 1, "dim")
    chosen = range(len(x)) if dims is None or dims == [] else [dims] if isinstance(dims, int) else dims
    reduced = {dim % len(x) for dim in chosen} if x else set()
    _mark(tracer, node, [x[dim] for dim in reduced])
    return [() if i in reduced else axis for i, axis in enumerate(x) if rank == len(x) or i not in reduced]


def norm_reduction(tracer: AxisTracer, node: Node) -> Axes:
    """linalg_vector_norm(x, ord, dim, keepdim)."""
    x = tracer.of(node.args[0])
    dims = argument(node, 2, "dim")
    chosen = range(len(x)) if dims is None else [dims] if isinstance(dims, int) else dims
    reduced = {dim % len(x) for dim in chosen}
    for axis in x:
        tracer.spaces.mark_nonlinear(axis)
    keep = len(sizes(node)) == len(x)
    return [() if i in reduced else axis for i, axis in enumerate(x) if keep or i not in reduced]


def softmax(tracer: AxisTracer, node: Node) -> Axes:
    """Element by element but for a sum over one axis: permutations commute with it."""
    x = tracer.of(node.args[0])
    for axis in x:
        tracer.spaces.mark_nonlinear(axis)
    return list(x)


def ordered(tracer: AxisTracer, node: Node) -> Axes:
    """cumsum, flip, roll, triu: the named axes are bound to their order, the others pass linearly."""
    x = tracer.of(node.args[0])
    for dim in _ordered_dims(node, len(x)):
        tracer.spaces.mark_fixed(x[dim], f"ordered by {place(node)}")
    return list(x)


def _ordered_dims(node: Node, rank: int) -> list[int]:
    name = str(node.target)
    if "tri" in name:
        return [rank - 2, rank - 1]
    dims: Any = argument(node, 2, "dims", []) if "roll" in name else node.args[1]
    return [dim % rank for dim in ([dims] if isinstance(dims, int) else dims)] or list(range(rank))


def _mark(tracer: AxisTracer, node: Node, axes: Axes) -> None:
    if node not in tracer.inside_norms:
        for axis in axes:
            tracer.spaces.mark_nonlinear(axis)
