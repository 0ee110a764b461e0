"""Rules of what mixtures of experts are made of: ranking experts, sorting rows, a matrix for each group of rows."""

from torch.fx import Node

from edgefold.tracing.axis_tracer import Axes, AxisTracer, all_sizes, argument, place, sizes


def top(tracer: AxisTracer, node: Node) -> None:
    """topk(x, k, dim) -> values and indices: which coordinates are the k largest depends on all of them."""
    x = list(tracer.of(node.args[0]))
    dim = int(argument(node, 2, "dim", -1)) % len(x)
    tracer.spaces.mark_fixed(x[dim], f"ranked by {place(node)}")
    x[dim] = tracer.spaces.new(all_sizes(node)[0][dim], f"ranked by {place(node)}")
    tracer.tuples[node] = [list(x), list(x)]


def sort(tracer: AxisTracer, node: Node) -> None:
    """sort(x, dim) -> values and indices."""
    tracer.tuples[node] = [_sorted(tracer, node), _sorted(tracer, node)]


def argsort(tracer: AxisTracer, node: Node) -> Axes:
    """argsort(x, dim)."""
    return _sorted(tracer, node)


def _sorted(tracer: AxisTracer, node: Node) -> Axes:
    """The operand's axes, of which the sorted one is bound to its order."""
    x = list(tracer.of(node.args[0]))
    position = 2 if "stable" in str(node.target) else 1
    dim = int(argument(node, position, "dim", -1)) % len(x)
    tracer.spaces.mark_fixed(x[dim], f"sorted by {place(node)}")
    return x


def counts(tracer: AxisTracer, node: Node) -> Axes:
    """histc(x, bins): how many values fall into each bin, whatever their order."""
    for axis in tracer.of(node.args[0]):
        tracer.spaces.mark_nonlinear(axis)
    return [tracer.spaces.new(size, f"counted by {place(node)}") for size in sizes(node)]


def grouped_product(tracer: AxisTracer, node: Node) -> Axes:
    """Rows that stand in groups, each group times its own matrix: y_i = x_i W_g(i), W: (groups, in, out).

    The rows of a group are those sent to one expert, so that the groups stay what they are.
    """
    x, weight = tracer.of(node.args[0]), tracer.of(node.args[1])
    tracer.spaces.unify(x[-1], weight[-2], place(node))
    tracer.read(node, node.args[0], len(x) - 1, node.args[1], len(weight) - 2)
    tracer.spaces.mark_fixed(weight[0], f"groups of rows of {place(node)}")
    if node.args[1] not in tracer.static:
        tracer.spaces.mark_nonlinear(x[-1])
    return [*x[:-1], weight[-1]]
