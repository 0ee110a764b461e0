"""Rules of norms, and the recognition of those that are written out in elementary operators."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import Graph, Node

from edgefold.tracing.axis_tracer import Axes, AxisTracer, NormRead, argument, broadcast, place, sizes

aten = torch.ops.aten
CASTS = (aten.to.dtype, aten._to_copy.default, aten.to.dtype_layout, aten.type_as.default)


def layer_norm(tracer: AxisTracer, node: Node) -> Axes:
    """(x - mean) / std * weight + bias over the last axes; only one axis can be projected."""
    return _norm(tracer, node, centred=True, default_eps=1e-5)


def rms_norm(tracer: AxisTracer, node: Node) -> Axes:
    """x / rms(x) * weight over the last axes."""
    return _norm(tracer, node, centred=False, default_eps=float(torch.finfo(torch.float32).eps))


def _norm(tracer: AxisTracer, node: Node, centred: bool, default_eps: float) -> Axes:
    x, source = tracer.of(node.args[0]), node.args[0]
    rank = len(node.args[1])  # type: ignore[arg-type]
    weight, bias = argument(node, 2, "weight"), argument(node, 3, "bias") if centred else None
    for operand in (weight, bias):
        if tracer.of(operand):
            tracer.unify_all(x[-rank:], tracer.of(operand), place(node))
    if rank > 1:
        for axis in x[-rank:]:
            tracer.spaces.mark_nonlinear(axis)
        return list(x)
    assert isinstance(source, Node)
    eps = argument(node, 4, "eps", default_eps) if centred else argument(node, 3, "eps", None)
    names = [tracer.parameters.get(operand) if isinstance(operand, Node) else None for operand in (weight, bias)]
    eps = float(default_eps if eps is None else eps)
    tracer.normalise(NormRead(node, source, names[0], names[1], eps, centred))
    return list(x)


def group_norm(tracer: AxisTracer, node: Node) -> Axes:
    """Each group of channels has its own mean and variance: the channels are groups x members."""
    x, groups = tracer.of(node.args[0]), int(node.args[1])  # type: ignore[arg-type]
    count = tracer.spaces.new(groups)
    members = tracer.spaces.new(tracer.spaces.size(x[1]) // groups)
    tracer.spaces.unify(x[1], (*count, *members), place(node))
    tracer.spaces.mark_nonlinear(x[1])
    for operand in (argument(node, 2, "weight"), argument(node, 3, "bias")):
        if tracer.of(operand):
            tracer.spaces.unify(x[1], tracer.of(operand)[0], place(node))
    return list(x)


def batch_norm(tracer: AxisTracer, node: Node) -> Axes | None:
    """An affine map per channel: axis 1 keeps its coordinates, in any order; also instance norm."""
    x = tracer.of(node.args[0])
    for operand in node.args[1:5]:
        if isinstance(operand, Node) and tracer.of(operand):
            tracer.spaces.unify(x[1], tracer.of(operand)[0], place(node))
    tracer.spaces.mark_nonlinear(x[1])
    return list(x)


def weight_norm(tracer: AxisTracer, node: Node) -> Axes:
    """v / |v| * g, the norm taken over all axes but one."""
    v, g = tracer.of(node.args[0]), tracer.of(node.args[1])
    for axis, scale in zip(v, g, strict=True):
        tracer.spaces.mark_nonlinear(axis)
        if scale != ():
            tracer.spaces.unify(axis, scale, place(node))
    return list(v)


def weight_norm_pair(tracer: AxisTracer, node: Node) -> None:
    """The same, with the norms as a second output."""
    tracer.tuples[node] = [weight_norm(tracer, node), list(tracer.of(node.args[1]))]


# --- norms that are written out ---------------------------------------------------


@dataclass(frozen=True)
class WrittenNorm:
    """A norm found in the graph: its operators, the last of which scales or shifts."""

    source: Node
    end: Node
    inside: tuple[Node, ...]
    weight: Node | None
    bias: Node | None
    eps: float
    centred: bool
    offset: float


def find_written_norms(graph: Graph) -> Iterator[WrittenNorm]:
    """x * rsqrt(mean(x^2) + eps) [* w], and (x - mean(x)) / sqrt(var(x) + eps) [* w] [+ b], with casts between them."""
    for node in graph.nodes:
        if node.target in (aten.rsqrt.default, aten.sqrt.default):
            found = _from_root(node)
            if found is not None and _is_closed(found):
                yield found


def _is_closed(norm: WrittenNorm) -> bool:
    """Whether nobody else uses what lies inside."""
    own = {*norm.inside, norm.end}
    return all(user in own for node in norm.inside if node is not norm.end for user in _readers(node))


def _from_root(root: Node) -> WrittenNorm | None:
    statistic = _statistic(root.args[0])
    if statistic is None:
        return None
    spread, eps, inside = statistic
    consumer = _only_user(root)
    if consumer is None or consumer.target not in (aten.mul.Tensor, aten.div.Tensor):
        return None
    is_division = consumer.target == aten.div.Tensor
    if is_division != (root.target == aten.sqrt.default):
        return None
    others = [arg for arg in consumer.args if arg is not root]
    value = others[0] if len(others) == 1 else None
    source, centred = _source_of(value, spread)
    if source is None:
        return None
    inside = [*inside, root, consumer, *([value] if centred and isinstance(value, Node) else [])]
    return _with_affine(source, consumer, inside, eps, centred)


def _statistic(value: Any) -> tuple[Node, float, list[Node]] | None:
    """add(mean(square), eps) -> (the node of the mean or variance, eps, operators)."""
    if not isinstance(value, Node) or value.target not in (aten.add.Tensor, aten.add.Scalar):
        return None
    spread, eps = value.args[0], value.args[1]
    if not isinstance(spread, Node) or not isinstance(eps, int | float):
        return None
    is_mean = spread.target == aten.mean.dim and argument(spread, 1, "dim") in ([-1], -1)
    is_variance = spread.target == aten.var.correction and argument(spread, 1, "dim") in ([-1], -1)
    is_last = sizes(spread)[-1:] == [1]
    return (spread, float(eps), [value, spread]) if (is_mean or is_variance) and is_last else None


def _source_of(value: Any, spread: Node) -> tuple[Node | None, bool]:
    """The x that is normalised by this spread, and whether its mean is taken off."""
    if not isinstance(value, Node):
        return None, False
    centre = value if value.target == aten.sub.Tensor and _is_mean_of(value.args[1], value.args[0]) else None
    if spread.target == aten.var.correction:
        population = argument(spread, 2, "correction") == 0
        same = centre is not None and spread.args[0] in (centre, centre.args[0])
        return (centre.args[0], True) if centre is not None and same and population else (None, False)  # type: ignore[return-value]
    squared = _squared(spread.args[0])
    if squared is None or _uncast(squared) is not _uncast(value):
        return None, False
    return (centre.args[0], True) if centre is not None else (value, False)  # type: ignore[return-value]


def _is_mean_of(mean: Any, x: Any) -> bool:
    return isinstance(mean, Node) and mean.target == aten.mean.dim and mean.args[0] is x and sizes(mean)[-1:] == [1]


def _squared(value: Any) -> Node | None:
    if not isinstance(value, Node):
        return None
    is_power = value.target == aten.pow.Tensor_Scalar and value.args[1] == 2
    is_product = value.target == aten.mul.Tensor and value.args[0] is value.args[1]
    base = value.args[0] if is_power or is_product or value.target == aten.square.default else None
    return base if isinstance(base, Node) else None


def _with_affine(source: Node, end: Node, inside: list[Node], eps: float, centred: bool) -> WrittenNorm:
    """Follow casts to a product with a weight and a sum with a bias."""
    weight, bias, offset = None, None, 0.0
    casts, following = _after_casts(end)
    if following is not None and following.target == aten.mul.Tensor:
        scale = next((arg for arg in following.args if _leads_to_parameter(arg)), None)
        found, added = _weight(scale)
        if found is not None:
            inside += [*casts, following, *_sum_in(scale)]
            weight, offset, end = found, added, following
            casts, following = _after_casts(end)
    if weight is not None and centred and following is not None and following.target == aten.add.Tensor:
        other = next((arg for arg in following.args if isinstance(arg, Node) and arg.op == "get_attr"), None)
        if other is not None and len(sizes(other)) == 1:
            inside += [*casts, following]
            bias, end = other, following
    mean = [arg for node in inside if node.target == aten.sub.Tensor for arg in node.args[1:2]]
    squares = [node.args[0] for node in inside if node.target == aten.mean.dim]
    inside += [node for node in (*mean, *squares) if isinstance(node, Node)]
    return WrittenNorm(source, end, tuple(inside), weight, bias, eps, centred, offset)


def _leads_to_parameter(value: Any) -> bool:
    return _weight(value)[0] is not None


def _weight(value: Any) -> tuple[Node | None, float]:
    """A vector of parameters, perhaps cast, perhaps with a number added: (its node, the number)."""
    offset = 0.0
    node = _uncast(value) if isinstance(value, Node) else None
    if node is not None and node.target == aten.add.Tensor:
        numbers = [arg for arg in node.args if isinstance(arg, int | float)]
        tensors = [arg for arg in node.args if isinstance(arg, Node)]
        node, offset = (_uncast(tensors[0]), float(numbers[0])) if len(numbers) == len(tensors) == 1 else (None, 0.0)
    return (node, offset) if node is not None and node.op == "get_attr" and len(sizes(node)) == 1 else (None, 0.0)


def _sum_in(scale: Any) -> list[Node]:
    """The sum of a weight and a number, where it serves this norm alone."""
    node = _uncast(scale)
    return [node] if node.target == aten.add.Tensor and _only_user(node) is not None else []


def _after_casts(node: Node) -> tuple[list[Node], Node | None]:
    """The casts that follow a value, and what reads it after them."""
    casts: list[Node] = []
    user = _only_user(node)
    while user is not None and user.target in CASTS:
        casts.append(user)
        user = _only_user(user)
    return casts, user


def _uncast(node: Node) -> Node:
    while node.target in CASTS and isinstance(node.args[0], Node):
        node = node.args[0]
    return node


def _readers(node: Node) -> list[Node]:
    """Those who use a value, without mere checks of its type."""
    return [user for user in node.users if user.target is not aten._assert_tensor_metadata.default]


def _only_user(node: Node) -> Node | None:
    users = _readers(node)
    return users[0] if len(users) == 1 else None


def written_norm_end(tracer: AxisTracer, node: Node) -> Axes:
    """The last operator of a written-out norm: its operands lie in one space, along which it is a norm."""
    _, result = broadcast(tracer, node)
    tracer.normalise(tracer.norm_ends[node])
    return result
