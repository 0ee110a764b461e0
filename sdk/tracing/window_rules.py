"""Rules of operators that move channels into space and back: shuffles of pixels and channels, windows."""

from torch.fx import Node

from edgefold.tracing.axes import Axis
from edgefold.tracing.axis_tracer import Axes, AxisTracer, argument, place, sizes


def pixel_shuffle(tracer: AxisTracer, node: Node) -> Axes:
    """(..., c r r, h, w) -> (..., c, h r, w r)."""
    x, after = tracer.of(node.args[0]), sizes(node)
    return [*x[:-3], _without_cells(tracer, node, x[-3], after[-3]), *_places(tracer, node, after[-2:])]


def pixel_unshuffle(tracer: AxisTracer, node: Node) -> Axes:
    """(..., c, h r, w r) -> (..., c r r, h, w)."""
    x, after = tracer.of(node.args[0]), sizes(node)
    return [*x[:-3], _with_cells(tracer, node, x[-3], after[-3]), *_places(tracer, node, after[-2:])]


def channel_shuffle(tracer: AxisTracer, node: Node) -> Axes:
    """(batch, groups c, ...) -> (batch, c groups, ...)."""
    x = list(tracer.of(node.args[0]))
    groups = int(argument(node, 1, "groups"))
    count, rest = tracer.spaces.reshape([x[1]], [groups, sizes(node)[1] // groups], place(node), has_heads=False)
    tracer.spaces.mark_fixed(count, f"shuffled by {place(node)}")
    tracer.spaces.mark_nonlinear(rest)
    x[1] = (*rest, *count)
    return x


def columns(tracer: AxisTracer, node: Node) -> Axes:
    """nn.Unfold: (batch, c, h, w) -> (batch, c * cells of a window, windows)."""
    x, after = tracer.of(node.args[0]), sizes(node)
    return [*x[:-3], _with_cells(tracer, node, x[-3], after[-2]), *_places(tracer, node, after[-1:])]


def image_of_columns(tracer: AxisTracer, node: Node) -> Axes:
    """nn.Fold: (batch, c * cells of a window, windows) -> (batch, c, h, w)."""
    x, after = tracer.of(node.args[0]), sizes(node)
    return [*x[:-2], _without_cells(tracer, node, x[-2], after[-3]), *_places(tracer, node, after[-2:])]


def windows(tracer: AxisTracer, node: Node) -> Axes:
    """x.unfold(dim, size, step): an axis becomes windows, each a new last axis."""
    x = list(tracer.of(node.args[0]))
    after = sizes(node)
    dim = int(argument(node, 1, "dimension")) % len(x)
    tracer.spaces.mark_fixed(x[dim], f"cut into windows by {place(node)}")
    x[dim], inner = _places(tracer, node, [after[dim], after[-1]])
    return [*x, inner]


def _without_cells(tracer: AxisTracer, node: Node, axis: Axis, kept: int) -> Axis:
    """The leading factor of an axis whose trailing one are the places within a cell."""
    cells = tracer.spaces.size(axis) // kept
    leading, trailing = tracer.spaces.reshape([axis], [kept, cells], place(node), has_heads=False)
    tracer.spaces.mark_fixed(trailing, f"moved by {place(node)}")
    return leading


def _with_cells(tracer: AxisTracer, node: Node, axis: Axis, size: int) -> Axis:
    return (*axis, *tracer.spaces.new(size // tracer.spaces.size(axis), f"moved by {place(node)}"))


def _places(tracer: AxisTracer, node: Node, extents: list[int]) -> list[Axis]:
    return [tracer.spaces.new(size, f"places made by {place(node)}") for size in extents]
