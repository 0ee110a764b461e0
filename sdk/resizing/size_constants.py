"""Constants in a forward pass that depend on a size, sqrt(hidden) or 1 / sqrt(head_dim), made up for in the weights.

The smaller architecture computes them anew. Where the student multiplies by c' what the teacher multiplies by c, the
parameters that write the multiplied value are scaled by c / c', and where those are read elsewhere too (tied
embeddings), what is read with them there is scaled by c' / c.
"""

import logging
import math
import operator
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgefold.dimensions import DimensionGraph
from edgefold.graphs.alignment import align
from edgefold.tracing.axis_tracer import LinearRead, NormRead, sizes

aten = torch.ops.aten
PRODUCTS = (aten.mul, aten.div)
SUMS = (aten.add, aten.sub, aten.cat, aten.stack)
PASSING = (
    *(aten.view, aten.reshape, aten._unsafe_view, aten.transpose, aten.permute, aten.t, aten.unsqueeze, aten.squeeze),
    *(aten.expand, aten.clone, aten.contiguous, aten.to, aten.type_as, aten.dropout, aten.alias, aten.neg),
    *(aten.slice, aten.select, aten.split, aten.split_with_sizes, aten.chunk, aten.unbind, operator.getitem),
)
"""Operators that hand a factor on: f(a x) = a f(x)."""

CHECKS = (aten._assert_tensor_metadata.default,)

logger = logging.getLogger(__name__)


def find_compensations(
    student: DimensionGraph, reference: DimensionGraph, frozen: Collection[str] = ()
) -> dict[Node, float]:
    """The factor of each product, norm and look-up of the student whose parameters are to be scaled.

    Args:
        reference: the graph of the full size. A constant without parameters before it that may be scaled is told in the
            log and left to training.
        frozen: parameters that are not to be scaled.
    """
    factors: dict[Node, float] = {}
    for node, counterpart in align(student.module, reference.module).items():
        own, wanted = _constant(node), _constant(counterpart)
        if own is None or wanted is None or own == wanted or 0 in (own, wanted):
            continue
        found = _scaled_writers(student, node, wanted / own)
        if found is None or any(_parameters(student, writer) & set(frozen) for writer in found):
            logger.info("The constant %.4g at %s was %.4g at full size; nothing makes up for it.", own, node, wanted)
            continue
        for writer, factor in found.items():
            factors[writer] = factors.get(writer, 1.0) * factor
    return factors


def compensated(student: DimensionGraph, factors: Mapping[Node, float]) -> dict[str, Tensor]:
    """The scaled parameters by name."""
    tensors = {**dict(student.module.named_parameters(remove_duplicate=False)), **dict(student.module.named_buffers())}
    result: dict[str, Tensor] = {}
    for node, parameters in _writers(student):
        if node not in factors:
            continue
        for name, offset in parameters.items():
            value = result.get(name, tensors[name].detach())
            result[name] = (value + offset) * factors[node] - offset
    return result


def _constant(node: Node) -> float | None:
    """What an operator multiplies its one operand by, where that is a number."""
    if node.target is aten.scaled_dot_product_attention.default:
        scale = node.kwargs.get("scale")
        return float(scale) if isinstance(scale, int | float) else 1 / math.sqrt(sizes(node.args[0])[-1])
    packet = getattr(node.target, "overloadpacket", None)
    if packet not in PRODUCTS or len(node.args) != 2:
        return None
    numbers = [value for value in map(_number, node.args) if value is not None]
    if len(numbers) != 1 or (packet is aten.div and _number(node.args[1]) is None):
        return None
    return 1 / numbers[0] if packet is aten.div and numbers[0] else numbers[0]


def _number(value: Any) -> float | None:
    """A literal, or a constant tensor without axes."""
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Node) and value.op == "get_attr":
        tensor = operator.attrgetter(str(value.target))(value.graph.owning_module)
        is_scalar = isinstance(tensor, Tensor) and tensor.numel() == 1 and tensor.device.type != "meta"
        return float(tensor) if is_scalar and not isinstance(tensor, torch.nn.Parameter) else None
    if isinstance(value, Node) and getattr(value.target, "overloadpacket", None) in (aten.to, aten.lift_fresh_copy):
        return _number(value.args[0])
    return None


def _operand(node: Node) -> Node | None:
    """The value that is multiplied; of attention the queries. None where the operands are a list, as einsum's."""
    return next((value for value in node.args if isinstance(value, Node) and _number(value) is None), None)


def _scaled_writers(student: DimensionGraph, node: Node, factor: float) -> dict[Node, float] | None:
    """What to scale so that the product at `node` grows by the factor and nothing else changes."""
    for writer, parameters in reversed(list(_writers(student))):
        if not _reaches_alone(writer, node):
            continue
        scaled = {writer: factor}
        for reader in _other_readers(student, writer, parameters):
            upstream = _norm_before(student, reader) if reader else None
            if upstream is None:
                return None
            scaled[upstream] = scaled.get(upstream, 1.0) / factor
        return scaled
    return None


def _writers(student: DimensionGraph) -> Iterator[tuple[Node, dict[str, float]]]:
    """Every product, norm and look-up in order, with its parameters and what is added to each before it scales."""
    found: dict[Node, dict[str, float]] = {node: {table: 0.0} for node, table, _ in student.lookups}
    for read in student.reads:
        found[read.node] = {read.parameter: 0.0} | ({read.bias: 0.0} if read.bias else {})
    for norm in student.norms:
        if norm.weight:
            found[norm.node] = {norm.weight: norm.offset} | ({norm.bias: 0.0} if norm.bias else {})
    yield from ((node, found[node]) for node in student.module.graph.nodes if node in found)


def _parameters(student: DimensionGraph, writer: Node) -> set[str]:
    return next(set(parameters) for node, parameters in _writers(student) if node is writer)


def _other_readers(
    student: DimensionGraph, writer: Node, parameters: Mapping[str, float]
) -> Iterator[LinearRead | NormRead | None]:
    """Who else uses these parameters; None for a use of a kind that cannot be made up for."""
    tensors = dict(student.module.named_parameters(remove_duplicate=False))
    own = [tensors[name] for name in parameters if name in tensors]
    reads = {read.node: read for read in student.reads}
    for other, others in _writers(student):
        if other is not writer and any(tensors.get(name) is value for name in others for value in own):
            yield reads.get(other)


def _norm_before(student: DimensionGraph, read: LinearRead | NormRead) -> Node | None:
    """The norm whose output this product alone reads."""
    return next((norm.node for norm in student.norms if norm.weight and _reaches_alone(norm.node, read.node)), None)


def _reaches_alone(writer: Node, end: Node) -> bool:
    """Whether scaling what `writer` gives scales one operand of `end`, and nothing that does not lead there."""
    scaled: set[Node] = set()
    current = writer
    while current is not end:
        if current is writer or _hands_on(current, scaled):
            scaled.add(current)
        elif not scaled.isdisjoint(current.all_input_nodes) and current.target not in CHECKS:
            return False
        current = current.next
        if current.op == "root":
            return False
    operand = _operand(end)
    return operand in scaled and not any(
        user not in scaled and user is not end and user.target not in CHECKS for node in scaled for user in node.users
    )


def _hands_on(node: Node, scaled: set[Node]) -> bool:
    if scaled.isdisjoint(node.all_input_nodes):
        return False
    packet = getattr(node.target, "overloadpacket", node.target)
    if packet in PASSING:
        return node.args[0] in scaled
    tensors = [value for value in node.all_input_nodes if isinstance(value.meta.get("val"), Tensor)]
    if packet in SUMS:
        return all(value in scaled for value in tensors) and not any(isinstance(a, int | float) for a in node.args)
    factors = [value in scaled for value in node.args]
    return packet in PRODUCTS and (factors == [True, False] or (packet is aten.mul and factors == [False, True]))
