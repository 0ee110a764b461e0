"""One rule per operator: which axes of its operands carry the same coordinates, and what runs along them.

A rule receives the tracer and the node and returns the axes of the node's output. An operator without a rule makes
every axis it touches fixed, and says so: never wrong, never a crash.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.fx import Node

from edgefold.axes import Axis, AxisSpaces

aten = torch.ops.aten
Axes = list[Axis]


@dataclass(frozen=True)
class LinearRead:
    """An operator that contracts activations with a parameter: y = x W^T or a convolution."""

    node: Node
    """The operator."""
    source: Node
    """The activation it reads."""
    axis: int
    """The axis of `source` that is contracted."""
    parameter: str
    parameter_axis: int
    bias: str | None
    """The parameter added to the product, if any."""
    macs: int


@dataclass(frozen=True)
class NormRead:
    """A layer norm over the last axis."""

    node: Node
    source: Node
    weight: str | None
    bias: str | None


@dataclass
class AxisTracer:
    """The state that the rules share while they walk a traced graph."""

    spaces: AxisSpaces
    axes: dict[Node, Axes] = field(default_factory=dict)
    parameters: dict[Node, str] = field(default_factory=dict)
    """Parameters and buffers, and their permuted views, by qualified name."""
    orders: dict[Node, tuple[int, ...]] = field(default_factory=dict)
    """For a permuted view of a parameter: which axis of the parameter each of its axes is."""
    reads: list[LinearRead] = field(default_factory=list)
    norms: list[NormRead] = field(default_factory=list)
    lookups: list[tuple[Node, str, Node]] = field(default_factory=list)
    """Embedding look-ups: (node, parameter, node of the indices)."""

    def of(self, value: Any) -> Axes:
        """The axes of an operand; a number has none."""
        return self.axes[value] if isinstance(value, Node) and value in self.axes else []

    def visit(self, node: Node) -> None:
        """Compute and store the axes of a call."""
        rule = RULES.get(node.target)
        if rule is None:
            tags = getattr(node.target, "tags", ())
            rule = pointwise if torch.Tag.pointwise in tags else unknown
        axes = rule(self, node)
        if axes is not None:
            self.axes[node] = axes


Rule = Callable[[AxisTracer, Node], "Axes | None"]


def sizes(node: Node) -> list[int]:
    """The example sizes of a tensor-valued node; a symbolic size counts by its example value."""
    value = node.meta.get("val")
    return [_hint(size) for size in value.shape] if isinstance(value, torch.Tensor) else []


def place(node: Node) -> str:
    """Where an operator stands, for people: its name and its line of source."""
    name = str(node.target).removeprefix("aten.")
    lines = [line.strip() for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File ")]
    if not lines:
        return name
    file, line = lines[-1].split('"')[1], lines[-1].split("line ")[1].split(",")[0]
    return f"{name} ({file.rsplit('/', 1)[-1]}:{line})"


def argument(node: Node, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def _hint(size: Any) -> int:
    return int(size) if isinstance(size, int) else int(size.node.hint)


def _pad(axes: Axes, rank: int) -> Axes:
    return [()] * (rank - len(axes)) + axes


def _broadcast(tracer: AxisTracer, node: Node) -> tuple[list[Axes], Axes]:
    """Align the tensor operands on the right and unify what is not broadcast."""
    rank = len(sizes(node))
    operands = [_pad(tracer.of(arg), rank) for arg in node.all_input_nodes if arg in tracer.axes]
    result: Axes = []
    for i in range(rank):
        present = [axes[i] for axes in operands if axes[i] != ()]
        for other in present[1:]:
            tracer.spaces.unify(present[0], other, place(node))
        result.append(present[0] if present else ())
    return operands, result


def pointwise(tracer: AxisTracer, node: Node) -> Axes:
    """f(x, y, ...) element by element: permutations commute with it, other maps do not."""
    _, result = _broadcast(tracer, node)
    for axis in result:
        tracer.spaces.mark_nonlinear(axis)
    return result


def add(tracer: AxisTracer, node: Node) -> Axes:
    """x + y is linear; x + 3 is not (it adds the vector of threes)."""
    if not all(isinstance(arg, Node) for arg in node.args[:2]):
        return pointwise(tracer, node)
    operands, result = _broadcast(tracer, node)
    for i, axis in enumerate(result):
        if any(axes[i] == () for axes in operands):  # one value added to every coordinate
            tracer.spaces.mark_nonlinear(axis)
    return result


def multiply(tracer: AxisTracer, node: Node) -> Axes:
    """x * y: gating where both vary; linear along an axis that only one of them has."""
    operands, result = _broadcast(tracer, node)
    for i, axis in enumerate(result):
        if sum(axes[i] != () for axes in operands) > 1:
            tracer.spaces.mark_nonlinear(axis)
    return result


def divide(tracer: AxisTracer, node: Node) -> Axes:
    """x / y: as `multiply`, but the divisor's own axes see a reciprocal."""
    result = multiply(tracer, node)
    for axis in tracer.of(node.args[1]):
        tracer.spaces.mark_nonlinear(axis)
    return result


def same(tracer: AxisTracer, node: Node) -> Axes:
    """The first operand, its axes untouched."""
    return list(tracer.of(node.args[0]))


def nothing(tracer: AxisTracer, node: Node) -> None:
    """Not a tensor, or nobody reads it."""


def constant(tracer: AxisTracer, node: Node) -> Axes:
    """A tensor made in forward: nothing of it can be resized."""
    return [tracer.spaces.new(size, f"made in forward by {place(node)}") for size in sizes(node)]


def unknown(tracer: AxisTracer, node: Node) -> Axes:
    """No rule: whatever it touches keeps its size."""
    reason = f"no rule for {place(node)}"
    for source in node.all_input_nodes:
        for axis in tracer.of(source):
            tracer.spaces.mark_fixed(axis, reason)
    return [tracer.spaces.new(size, reason) for size in sizes(node)]


def linear(tracer: AxisTracer, node: Node) -> Axes:
    """y = x W^T + b, W: (out, in)."""
    x, weight = tracer.of(node.args[0]), tracer.of(node.args[1])
    tracer.spaces.unify(x[-1], weight[1], place(node))
    _read(tracer, node, node.args[0], len(x) - 1, node.args[1], 1, argument(node, 2, "bias"))
    bias = tracer.of(argument(node, 2, "bias"))
    if bias:
        tracer.spaces.unify(weight[0], bias[0], place(node))
    return [*x[:-1], weight[0]]


def addmm(tracer: AxisTracer, node: Node) -> Axes:
    """y = b + x M."""
    result = _product(tracer, node, node.args[1], node.args[2], node.args[0])
    bias = tracer.of(node.args[0])
    if bias:
        tracer.spaces.unify(result[-1], bias[-1], place(node))
    return result


def matmul(tracer: AxisTracer, node: Node) -> Axes:
    """x M, with leading batch axes; M may be a parameter or another activation."""
    return _product(tracer, node, node.args[0], node.args[1])


def _product(tracer: AxisTracer, node: Node, left: Any, right: Any, bias: Any = None) -> Axes:
    a, b = tracer.of(left), tracer.of(right)
    if len(a) < 2 or len(b) < 2:
        return unknown(tracer, node)
    tracer.spaces.unify(a[-1], b[-2], place(node))
    if right in tracer.parameters:
        _read(tracer, node, left, len(a) - 1, right, len(b) - 2, bias)
    elif left in tracer.parameters:
        _read(tracer, node, right, len(b) - 2, left, len(a) - 1)
    else:  # a product of two activations (query and key): only what both sides agree on may change
        tracer.spaces.mark_fixed(a[-1], f"contracted between activations by {place(node)}")
    rank = max(len(a), len(b))
    batch: Axes = []
    for x, y in zip(_pad(a, rank)[:-2], _pad(b, rank)[:-2], strict=True):
        if x != () and y != ():
            tracer.spaces.unify(x, y, place(node))
            tracer.spaces.mark_nonlinear(x)
        batch.append(x if x != () else y)
    return [*batch, a[-2], b[-1]]


def attention(tracer: AxisTracer, node: Node) -> Axes:
    """softmax(q k^T) v with q: (batch, heads, query, d), k, v: (batch, heads, key, d)."""
    q, k, v = (tracer.of(arg) for arg in node.args[:3])
    where = place(node)
    for i in range(len(q) - 2):
        tracer.spaces.unify(q[i], k[i], where)
        tracer.spaces.unify(q[i], v[i], where)
        tracer.spaces.mark_nonlinear(q[i])
    tracer.spaces.unify(q[-1], k[-1], where)
    tracer.spaces.mark_fixed(q[-1], f"contracted between activations by {where}")
    tracer.spaces.unify(k[-2], v[-2], where)
    return [*q[:-1], v[-1]]


def embedding(tracer: AxisTracer, node: Node) -> Axes:
    """W[ids], W: (rows, d)."""
    weight, ids = tracer.of(node.args[0]), tracer.of(node.args[1])
    tracer.spaces.mark_fixed(weight[0], "rows of a look-up table")
    name = tracer.parameters.get(node.args[0])  # type: ignore[arg-type]
    if name is not None:
        tracer.lookups.append((node, name, node.args[1]))  # type: ignore[arg-type]
    return [*ids, weight[1]]


def layer_norm(tracer: AxisTracer, node: Node) -> Axes:
    """(x - mean) / std * weight + bias over the last axis."""
    x = tracer.of(node.args[0])
    if len(node.args[1]) != 1:  # type: ignore[arg-type]
        return unknown(tracer, node)
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias")
    for operand in (weight, bias):
        if isinstance(operand, Node):
            tracer.spaces.unify(x[-1], tracer.of(operand)[0], place(node))
    source = node.args[0]
    assert isinstance(source, Node)
    tracer.norms.append(NormRead(node, source, tracer.parameters.get(weight), tracer.parameters.get(bias)))
    return list(x)


def batch_norm(tracer: AxisTracer, node: Node) -> Axes:
    """An affine map per channel: axis 1 keeps its coordinates, in any order."""
    x = tracer.of(node.args[0])
    for operand in node.args[1:5]:
        if isinstance(operand, Node) and tracer.of(operand):
            tracer.spaces.unify(x[1], tracer.of(operand)[0], place(node))
    tracer.spaces.mark_nonlinear(x[1])
    return list(x)


def convolution(tracer: AxisTracer, node: Node) -> Axes:
    """A convolution, dense or depthwise; W: (out, in / groups, *kernel)."""
    x, weight, bias = (tracer.of(node.args[i] if len(node.args) > i else None) for i in range(3))
    groups = int(argument(node, 6, "groups", 1))
    channels = sizes(node.args[0])[1]  # type: ignore[arg-type]
    where = place(node)
    if groups == 1:
        tracer.spaces.unify(x[1], weight[1], where)
        _read(tracer, node, node.args[0], 1, node.args[1], 1, argument(node, 2, "bias"))
    elif groups == channels == sizes(node)[1]:
        tracer.spaces.unify(x[1], weight[0], where)
        tracer.spaces.mark_nonlinear(x[1])
    else:
        return unknown(tracer, node)
    if bias:
        tracer.spaces.unify(weight[0], bias[0], where)
    for kernel in weight[2:]:
        tracer.spaces.mark_fixed(kernel, "a kernel's extent")
    return [x[0], weight[0], *(tracer.spaces.new(size) for size in sizes(node)[2:])]


def pooling(tracer: AxisTracer, node: Node) -> Axes:
    """Pooling over the trailing axes, channel by channel."""
    x = tracer.of(node.args[0])
    kept = next((i for i in range(len(x)) if sizes(node)[i] != sizes(node.args[0])[i]), len(x))  # type: ignore[arg-type]
    kept = min(max(kept, 2), len(x))
    tracer.spaces.mark_nonlinear(x[1])
    return [*x[:kept], *(tracer.spaces.new(size) for size in sizes(node)[kept:])]


def reduction(tracer: AxisTracer, node: Node) -> Axes:
    """sum or mean over some axes: those keep their coordinates, the others pass."""
    x = tracer.of(node.args[0])
    dims = argument(node, 1, "dim") or range(len(x))
    reduced = {dim % len(x) for dim in ([dims] if isinstance(dims, int) else dims)}
    for dim in reduced:
        tracer.spaces.mark_fixed(x[dim], f"reduced by {place(node)}")
    keep = bool(argument(node, 2, "keepdim", False))
    return [() if i in reduced else axis for i, axis in enumerate(x) if keep or i not in reduced]


def softmax(tracer: AxisTracer, node: Node) -> Axes:
    """Normalises over one axis, works element by element along the others."""
    x = tracer.of(node.args[0])
    for axis in x:
        tracer.spaces.mark_nonlinear(axis)
    tracer.spaces.mark_fixed(x[node.args[1]], f"normalised by {place(node)}")  # type: ignore[index]
    return list(x)


def reshape(tracer: AxisTracer, node: Node) -> Axes:
    """view, reshape, flatten, unflatten."""
    return tracer.spaces.reshape(tracer.of(node.args[0]), sizes(node), place(node))


def permute(tracer: AxisTracer, node: Node) -> Axes:
    return _reorder(tracer, node, [int(dim) for dim in node.args[1]])  # type: ignore[arg-type,union-attr]


def transpose(tracer: AxisTracer, node: Node) -> Axes:
    order = list(range(len(tracer.of(node.args[0]))))
    i, j = (-1, -2) if len(node.args) < 3 else (node.args[1], node.args[2])
    order[i], order[j] = order[j], order[i]  # type: ignore[index]
    return _reorder(tracer, node, order)


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
    shape = sizes(node)
    x = _pad(list(tracer.of(node.args[0])), len(shape))
    return [axis if axis != () else tracer.spaces.new(size) for axis, size in zip(x, shape, strict=True)]


def take(tracer: AxisTracer, node: Node) -> Axes:
    """slice and select: the cut axis keeps its coordinates unless it is taken whole."""
    x = list(tracer.of(node.args[0]))
    dim = int(argument(node, 1, "dim", 0)) % len(x)
    is_select = node.target is aten.select.int
    shape = sizes(node)
    if not is_select and shape[dim] == sizes(node.args[0])[dim]:  # type: ignore[arg-type]
        return x
    reason = f"cut by {place(node)}"
    tracer.spaces.mark_fixed(x[dim], reason)
    if is_select:
        return [axis for i, axis in enumerate(x) if i != dim]
    x[dim] = tracer.spaces.new(shape[dim], reason)
    return x


def _read(
    tracer: AxisTracer, node: Node, source: Any, axis: int, weight: Any, weight_axis: int, bias: Any = None
) -> None:
    """Remember a contraction with a parameter, and its multiply-adds: one per output and contracted element."""
    name = tracer.parameters.get(weight)
    if name is None or not isinstance(source, Node):
        return
    contracted = sizes(weight)[weight_axis]
    kernel = 1
    for size in sizes(weight)[2:] if "conv" in str(node.target) else []:
        kernel *= size
    outputs = 1
    for size in sizes(node):
        outputs *= size
    own_axis = tracer.orders[weight][weight_axis] if weight in tracer.orders else weight_axis
    added = tracer.parameters.get(bias) if isinstance(bias, Node) else None
    tracer.reads.append(LinearRead(node, source, axis, name, own_axis, added, outputs * contracted * kernel))


RULES: dict[Any, Rule] = {
    aten.linear.default: linear,
    aten.addmm.default: addmm,
    aten.matmul.default: matmul,
    aten.mm.default: matmul,
    aten.bmm.default: matmul,
    aten.scaled_dot_product_attention.default: attention,
    aten.embedding.default: embedding,
    aten.layer_norm.default: layer_norm,
    aten.batch_norm.default: batch_norm,
    aten.conv1d.default: convolution,
    aten.conv2d.default: convolution,
    aten.conv3d.default: convolution,
    aten.conv1d.padding: unknown,
    aten.max_pool1d.default: pooling,
    aten.max_pool2d.default: pooling,
    aten.avg_pool1d.default: pooling,
    aten.avg_pool2d.default: pooling,
    aten.adaptive_avg_pool1d.default: pooling,
    aten.adaptive_avg_pool2d.default: pooling,
    aten.mean.dim: reduction,
    aten.sum.dim_IntList: reduction,
    aten.softmax.int: softmax,
    aten.log_softmax.int: softmax,
    aten.add.Tensor: add,
    aten.add_.Tensor: add,
    aten.sub.Tensor: add,
    aten.mul.Tensor: multiply,
    aten.mul_.Tensor: multiply,
    aten.div.Tensor: divide,
    aten.div_.Tensor: divide,
    aten.neg.default: same,
    aten.dropout.default: same,
    aten.dropout_.default: same,
    aten.feature_dropout.default: same,
    aten.contiguous.default: same,
    aten.clone.default: same,
    aten.detach.default: same,
    aten.to.dtype: same,
    aten.to.device: same,
    aten.to.dtype_layout: same,
    aten._to_copy.default: same,
    aten.view.default: reshape,
    aten.reshape.default: reshape,
    aten.flatten.using_ints: reshape,
    aten.unflatten.int: reshape,
    aten._unsafe_view.default: reshape,
    aten.permute.default: permute,
    aten.transpose.int: transpose,
    aten.t.default: transpose,
    aten.numpy_T.default: transpose,
    aten.unsqueeze.default: unsqueeze,
    aten.squeeze.dim: squeeze,
    aten.squeeze.dims: squeeze,
    aten.squeeze.default: squeeze,
    aten.expand.default: expand,
    aten.slice.Tensor: take,
    aten.select.int: take,
    aten.arange.default: constant,
    aten.arange.start: constant,
    aten.arange.start_step: constant,
    aten.zeros.default: constant,
    aten.ones.default: constant,
    aten.full.default: constant,
    aten.new_ones.default: constant,
    aten.new_zeros.default: constant,
    aten.scalar_tensor.default: constant,
    aten.relu_.default: pointwise,
    aten.where.ScalarOther: pointwise,
    aten.where.ScalarSelf: pointwise,
    aten.masked_fill.Scalar: pointwise,
    aten.hardtanh_.default: pointwise,
    aten.silu_.default: pointwise,
    aten._assert_tensor_metadata.default: nothing,
    aten.sym_size.int: nothing,
}
