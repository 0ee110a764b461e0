"""Rules of products: linear maps, matrix products, einsum, convolutions, attention."""

from math import prod
from typing import Any

from torch.fx import Node

from edgefold.tracing.axes import Axis
from edgefold.tracing.axis_tracer import Axes, AxisTracer, argument, pad_axes, place, sizes
from edgefold.tracing.elementwise_rules import unknown

SPACE = "places in space or time"


def linear(tracer: AxisTracer, node: Node) -> Axes:
    """y = x W^T + b, W: (out, in)."""
    x, weight = tracer.of(node.args[0]), tracer.of(node.args[1])
    bias = argument(node, 2, "bias")
    tracer.spaces.unify(x[-1], weight[1], place(node))
    tracer.read(node, node.args[0], len(x) - 1, node.args[1], 1, bias)
    if tracer.of(bias):
        tracer.spaces.unify(weight[0], tracer.of(bias)[0], place(node))
    return [*x[:-1], weight[0]]


def bilinear(tracer: AxisTracer, node: Node) -> Axes:
    """y_o = x_1^T W_o x_2 + b_o, W: (out, in_1, in_2)."""
    x, other, weight = (tracer.of(arg) for arg in node.args[:3])
    tracer.spaces.unify(x[-1], weight[1], place(node))
    tracer.spaces.unify(other[-1], weight[2], place(node))
    tracer.unify_all(x[:-1], other[:-1], place(node))
    if tracer.of(argument(node, 3, "bias")):
        tracer.spaces.unify(weight[0], tracer.of(argument(node, 3, "bias"))[0], place(node))
    return [*x[:-1], weight[0]]


def addmm(tracer: AxisTracer, node: Node) -> Axes:
    """y = b + x M; also baddbmm."""
    result = _product(tracer, node, node.args[1], node.args[2], node.args[0])
    bias = tracer.of(node.args[0])
    for axis, added in zip(result[::-1], bias[::-1], strict=False):
        if added != ():
            tracer.spaces.unify(axis, added, place(node))
        else:
            tracer.spaces.mark_nonlinear(axis)
    return result


def matmul(tracer: AxisTracer, node: Node) -> Axes:
    """x M, with leading batch axes; M may be a parameter or another activation."""
    return _product(tracer, node, node.args[0], node.args[1])


def _product(tracer: AxisTracer, node: Node, left: Any, right: Any, bias: Any = None) -> Axes:
    a, b = list(tracer.of(left)), list(tracer.of(right))
    vectors = len(a) == 1, len(b) == 1
    a, b = ([(), *a] if vectors[0] else a), ([*b, ()] if vectors[1] else b)
    tracer.spaces.unify(a[-1], b[-2], place(node))
    if right in tracer.parameters and left not in tracer.static:
        tracer.read(node, left, len(tracer.of(left)) - 1, right, len(tracer.of(right)) - (1 if vectors[1] else 2), bias)
    elif left in tracer.parameters and right not in tracer.static:
        tracer.read(node, right, len(tracer.of(right)) - (1 if vectors[1] else 2), left, len(tracer.of(left)) - 1)
    _contract(tracer, a[-1], left, right)
    rank = max(len(a), len(b))
    batch: Axes = []
    for x, y in zip(pad_axes(a, rank)[:-2], pad_axes(b, rank)[:-2], strict=True):
        if x != () and y != ():
            tracer.spaces.unify(x, y, place(node))
            tracer.spaces.mark_nonlinear(x)
        batch.append(x if x != () else y)
    return [*batch, *([] if vectors[0] else [a[-2]]), *([] if vectors[1] else [b[-1]])]


def _contract(tracer: AxisTracer, axis: Axis, left: Any, right: Any) -> None:
    """A sum of products of two activations (query and key) bears permutations of both; one with a weight, any map."""
    if left not in tracer.static and right not in tracer.static:
        tracer.spaces.mark_nonlinear(axis)


def einsum(tracer: AxisTracer, node: Node) -> Axes:
    """A letter in the output and in several operands is a batch, one that vanishes is contracted."""
    equation = str(node.args[0]).replace(" ", "")
    operands: list[Any] = list(node.args[1])  # type: ignore[arg-type]
    if "." in equation:
        return unknown(tracer, node)
    inputs, _, output = equation.partition("->")
    letters = inputs.split(",")
    if "->" not in equation:
        output = "".join(sorted(c for c in set(inputs) - {","} if inputs.count(c) == 1))
    if any(len(set(word)) < len(word) for word in letters):
        return unknown(tracer, node)
    axes: dict[str, Axis] = {}
    for word, operand in zip(letters, operands, strict=True):
        for letter, axis in zip(word, tracer.of(operand), strict=True):
            known = axes.setdefault(letter, axis)
            if known == ():
                axes[letter] = axis
            elif axis != ():
                tracer.spaces.unify(known, axis, place(node))
    _einsum_kinds(tracer, letters, operands, output, axes)
    _einsum_reads(tracer, node, letters, operands, output)
    return [axes[letter] for letter in output]


def _einsum_kinds(tracer: AxisTracer, letters: list[str], operands: list[Any], output: str, axes: Any) -> None:
    for letter, axis in axes.items():
        holders = [operand for word, operand in zip(letters, operands, strict=True) if letter in word]
        activations = [operand for operand in holders if operand not in tracer.static]
        is_linear = len(holders) == 1 if letter in output else len(holders) == 2 and len(activations) < 2
        if not is_linear:
            tracer.spaces.mark_nonlinear(axis)


def _einsum_reads(tracer: AxisTracer, node: Node, letters: list[str], operands: list[Any], output: str) -> None:
    """x and a parameter with one contracted letter: a product that reads."""
    if len(operands) != 2:
        return
    for mine, other in ((0, 1), (1, 0)):
        contracted = [letter for letter in letters[mine] if letter in letters[other] and letter not in output]
        if operands[mine] in tracer.parameters and len(contracted) == 1:
            source_axis = letters[other].index(contracted[0])
            tracer.read(node, operands[other], source_axis, operands[mine], letters[mine].index(contracted[0]))


def attention(tracer: AxisTracer, node: Node) -> Axes:
    """softmax(q k^T) v with q: (batch, heads, query, d), k, v: (batch, groups, key, d)."""
    q, k, v = (tracer.of(arg) for arg in node.args[:3])
    where = place(node)
    for i in range(len(q) - 2):
        queries = tracer.spaces.size(q[i]) // max(1, tracer.spaces.size(k[i]))
        tracer.spaces.unify(k[i], v[i], where)
        tracer.spaces.unify(q[i], (*k[i], *tracer.spaces.new(queries)), where)
        tracer.spaces.mark_nonlinear(q[i])
    tracer.spaces.unify(q[-1], k[-1], where)
    tracer.spaces.mark_nonlinear(q[-1])
    tracer.spaces.unify(k[-2], v[-2], where)
    mask = pad_axes(tracer.of(argument(node, 3, "attn_mask")), len(q))
    for axis, by in zip([*q[:-1], k[-2]], mask, strict=True):
        if by != ():
            tracer.spaces.unify(axis, by, where)
    return [*q[:-1], v[-1]]


def convolution(tracer: AxisTracer, node: Node) -> Axes:
    """W: (out, in / groups, *kernel), or (in, out / groups, *kernel) where it is transposed."""
    x, weight, bias = (tracer.of(node.args[i] if len(node.args) > i else None) for i in range(3))
    name, where = str(node.target), place(node)
    general = name.startswith("aten.convolution")
    transposed = bool(node.args[6]) if general else "transpose" in name
    groups = int(argument(node, 8 if general else 6, "groups", 1))
    unbatched = len(sizes(node.args[0])) == len(weight) - 1
    channel = 0 if unbatched else 1
    count = tracer.spaces.new(groups)
    outer, inner = (weight[0], weight[1]) if not transposed else (weight[1], weight[0])
    # what a group sees is `per_group`; the other axis of the weight holds the groups as its leading factor
    kernel = prod(sizes(node.args[1])[2:])
    if not transposed:
        tracer.spaces.unify(x[channel], (*count, *inner), where)
        out = outer
        _hold_groups(tracer, out, count, groups, where)
        if groups == 1:
            tracer.read(node, node.args[0], channel, node.args[1], 1, argument(node, 2, "bias"), kernel)
    else:
        _hold_groups(tracer, inner, count, groups, where)
        tracer.spaces.unify(x[channel], inner, where)
        out = (*count, *outer)
        if groups == 1:
            tracer.read(node, node.args[0], channel, node.args[1], 0, argument(node, 2, "bias"), kernel)
    if groups > 1:
        tracer.spaces.mark_nonlinear(count)
    if bias:
        tracer.spaces.unify(out, bias[0], where)
    for extent in weight[2:]:
        tracer.spaces.mark_fixed(extent, "a kernel's extent")
    return [*x[:channel], out, *_convolved(tracer, node, channel)]


def _convolved(tracer: AxisTracer, node: Node, channel: int) -> list[Axis]:
    """The axes that a kernel runs over: new ones, but where it is one place wide and sees each by itself."""
    source, kernel = sizes(node.args[0])[channel + 1 :], sizes(node.args[1])[2:]
    axes, after = tracer.of(node.args[0])[channel + 1 :], sizes(node)[channel + 1 :]
    result: list[Axis] = []
    for axis, before, extent, size in zip(axes, source, kernel, after, strict=True):
        if extent == 1 and before == size:
            result.append(axis)
        else:
            tracer.spaces.mark_fixed(axis, f"convolved over by {place(node)}")
            result.append(tracer.spaces.new(size, SPACE))
    return result


def _hold_groups(tracer: AxisTracer, axis: Axis, count: Axis, groups: int, where: str) -> None:
    """An axis over all groups is groups x what each has."""
    if groups > 1:
        tracer.spaces.unify(axis, (*count, *tracer.spaces.new(tracer.spaces.size(axis) // groups)), where)


def pooling(tracer: AxisTracer, node: Node) -> Axes:
    """Pooling and resampling over the trailing axes, channel by channel; averages commute with any map of channels."""
    x, before, after = tracer.of(node.args[0]), sizes(node.args[0]), sizes(node)
    if after and len(after) == len(before):
        result = _resampled(tracer, x, before, after)
    else:
        tracer.tuples[node] = [_resampled(tracer, x, before, before)]
        result = []
    if "max" in str(node.target):
        spatial = next(rank for rank in (1, 2, 3) if f"{rank}d" in str(node.target))
        tracer.spaces.mark_nonlinear(x[-spatial - 1])
    return result


def _resampled(tracer: AxisTracer, x: Axes, before: list[int], after: list[int]) -> Axes:
    kept = next((i for i in range(len(x)) if before[i] != after[i]), len(x))
    kept = min(max(kept, 2), len(x)) if len(x) > 3 else min(kept, len(x) - 1)
    for axis in x[kept:]:
        tracer.spaces.mark_fixed(axis, SPACE)
    return [*x[:kept], *(tracer.spaces.new(size, SPACE) for size in after[kept:])]
