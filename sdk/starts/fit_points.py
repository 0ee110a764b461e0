"""Where a student can be fitted to its teacher: products with a parameter, and norms, with what each should produce."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph
from edgefold.graphs.alignment import align
from edgefold.graphs.replay import changes_in_place
from edgefold.projections import Map, Projection
from edgefold.resizing.layouts import AxisLayout, Factor, Layout, axis_names, axis_size, layout_names, resized_shape
from edgefold.tracing.axis_tracer import LinearRead, NormRead, sizes

aten = torch.ops.aten
UNFITTED = (aten.einsum.default, aten.lstm.input, aten.gru.input, aten.rnn_tanh.input, aten.rnn_relu.input)
"""Products whose outputs do not stand where their inputs did."""
ADDS = (aten.add.Tensor, aten.add_.Tensor)
PASSING = (
    *(aten.dropout.default, aten.dropout_.default, aten.clone.default, aten.contiguous.default, aten.to.dtype),
    *(aten.view.default, aten.reshape.default, aten._unsafe_view.default),
)
"""Operators that hand a vector on as it is; views do where they leave the last axis whole."""


@dataclass(frozen=True)
class FitPoint:
    """One operator of the student whose parameters are fitted, and the teacher's value that it is fitted to."""

    path: tuple[Node, ...]
    """The student's nodes from the operator to where it is compared: to itself, or to the sum that it writes into."""
    target: Node
    """The teacher's node with the value wanted at the end of the path."""
    layout: AxisLayout
    """Of the vectors there, before they are mapped into the student's space."""
    axis: int
    """The axis of those vectors, counted from the end."""
    source: Node | None
    """What a product reads; None for a norm."""
    weight: str | None
    weight_axis: int
    """The axis of the weight that is contracted; 0 for a norm."""
    bias: str | None
    factor: float = 1.0
    """Times the target: what makes up for a constant that depends on a size."""
    across: Layout = ()
    """Where the student has fewer of such vectors, for each head one: the layouts of the target's other axes."""

    @property
    def name(self) -> str:
        parameter = self.weight or self.bias or ""
        return parameter.rpartition(".")[0] or parameter


def find_fit_points(
    student: DimensionGraph,
    teacher: DimensionGraph,
    reference: DimensionGraph,
    maps: Mapping[str, Map],
    layer_map: Mapping[str, str],
    frozen: Collection[str],
    factors: Mapping[Node, float],
) -> tuple[list[FitPoint], list[str]]:
    """All fit points in the student's order, and the parameters of those that the teacher has no counterpart for.

    Args:
        reference: the full-size graph that the student's sizes come from; its layouts say how to map a vector.
        maps: of its dimensions into the student's space.
        layer_map: module paths of the student -> of the teacher, where they differ.
        frozen: parameters not to be fitted.
        factors: of the student's operators whose outputs are to be larger than the teacher's.
    """
    in_teacher = align(student.module, teacher.module, layer_map)
    in_reference = align(student.module, reference.module, layer_map if reference is teacher else None)
    found: dict[Node, FitPoint] = {}
    lost: list[str] = []
    reads: tuple[LinearRead | NormRead, ...] = (*student.reads, *student.norms)
    for read in reads:
        if isinstance(read, LinearRead) and read.node.target in UNFITTED:
            continue
        weight, bias = _fitted(student.module, read, frozen)
        if weight is None and bias is None:
            continue
        path = _path_to_sum(read, student.module) if isinstance(read, LinearRead) else (read.node,)
        axis = read.axis - len(sizes(read.source)) if isinstance(read, LinearRead) else -1
        layouts = _layouts(reference, in_reference.get(path[-1]), axis)
        across = _across(layouts, axis, maps)
        if path[-1] not in in_teacher or across is None or _mapped_size(layouts[axis], maps) != sizes(path[-1])[axis]:
            lost.append(weight or bias or "")
            continue
        source, contracted = (read.source, read.parameter_axis) if isinstance(read, LinearRead) else (None, 0)
        factor = factors.get(read.node, 1.0)
        target, layout = in_teacher[path[-1]], layouts[axis]
        found[read.node] = FitPoint(path, target, layout, axis, source, weight, contracted, bias, factor, across)
    return [found[node] for node in student.module.graph.nodes if node in found], lost


def _layouts(reference: DimensionGraph, node: Node | None, axis: int) -> Layout:
    """Of a node's axes; () where it has no such axis."""
    layouts = reference.node_layouts.get(node, ()) if node else ()
    return layouts if len(layouts) >= -axis else ()


def _across(layouts: Layout, axis: int, maps: Mapping[str, Map]) -> Layout | None:
    """The layouts of the axes but one, that one as it is; () where none changes, None where they cannot be followed."""
    others: list[AxisLayout] = list(layouts)
    if not others:
        return None
    others[axis] = (Factor("", axis_size(layouts[axis])),)
    changing = [other for other in others if not axis_names(other).isdisjoint(maps)]
    named = all(factor.dimension for other in changing for factor in other)  # and not one with the rows of a batch
    if not named or any(isinstance(maps.get(name), Projection) for name in layout_names(tuple(others))):
        return None
    return tuple(others) if changing else ()


def _mapped_size(layout: AxisLayout, maps: Mapping[str, Map]) -> int:
    return resized_shape((layout,), {name: map.size for name, map in maps.items()})[0]


def rows(value: Tensor, axis: int, batch: Batch) -> Tensor:
    """The vectors along an axis as (n, size), without those at masked positions, be the positions one axis or two."""
    value = value.movedim(axis, -1)
    mask = batch.get("attention_mask")
    if mask is not None and mask.dim() == 2:
        if value.dim() >= 3 and value.shape[:2] == mask.shape:
            value = value[mask.bool()]
        elif value.dim() == 2 and len(value) == mask.numel():
            value = value[mask.bool().flatten()]
    return value.reshape(-1, value.shape[-1])


def _fitted(module: GraphModule, read: LinearRead | NormRead, frozen: Collection[str]) -> tuple[str | None, str | None]:
    """The weight and the bias of an operator that may be fitted: not frozen, read nowhere else, of the plain kind."""
    weight = read.parameter if isinstance(read, LinearRead) else read.weight
    weight, bias = (
        name if name and name not in frozen and _is_read_here_alone(module, name, read.node) else None
        for name in (weight, read.bias)
    )
    if isinstance(read, NormRead):
        size = tuple(sizes(read.node)[-1:])
        if any(tuple(module.get_parameter(name).shape) != size for name in (weight, bias) if name):
            return None, None
        if read.offset:  # a scale of 1 + w is not multiplied by multiplying w
            return None, bias
        return (weight if bias or not read.bias else None), bias  # a scale multiplies a shift that may not follow it
    return (weight if weight and module.get_parameter(weight).dim() == 2 else None), bias


def _is_read_here_alone(module: GraphModule, name: str, node: Node) -> bool:
    """Whether a parameter reaches this operator, at most through a permutation, and nothing else."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if name not in parameters:
        return False
    aliases = {other for other, tensor in parameters.items() if tensor is parameters[name]}
    reached = [n for n in module.graph.nodes if n.op == "get_attr" and n.target in aliases]
    while len(reached) == 1 and len(reached[0].users) == 1:
        (user,) = reached[0].users
        if user is node:
            return True
        reached = [user] if user.target in (aten.t.default, aten.transpose.int, aten.permute.default) else []
    return False


def _path_to_sum(read: LinearRead, module: GraphModule) -> tuple[Node, ...]:
    """From a product on through what hands its vectors on, to the last sum whose other operands stand before it.

    Vectors along another axis than the last are compared right at the product: a view might rearrange them.
    """
    if read.axis != len(sizes(read.source)) - 1:
        return (read.node,)
    order = {node: i for i, node in enumerate(module.graph.nodes)}
    path, end = [read.node], 1
    for node in _handed_on(read.node, order):
        path.append(node)
        end = len(path) if node.target in ADDS else end
    return tuple(path[:end])


def _handed_on(product: Node, order: Mapping[Node, int]) -> Iterator[Node]:
    """The only users, one after the other, for as long as they add to the product's vectors what is known already."""
    node = product
    while len(node.users) == 1:
        (user,) = node.users
        if not (_passes(user, node) or _adds_known(user, node, order[product], order)):
            return
        yield user
        node = user


def _passes(user: Node, node: Node) -> bool:
    if user.target not in PASSING or user.args[0] is not node:
        return False
    return sizes(user)[-1:] == sizes(node)[-1:]


def _adds_known(user: Node, node: Node, product: int, order: Mapping[Node, int]) -> bool:
    if user.target not in ADDS or user.kwargs or len(user.args) != 2 or user.args[0] is user.args[1]:
        return False
    other = user.args[1] if user.args[0] is node else user.args[0]
    writes_into_other = changes_in_place(user) and user.args[0] is other
    is_known = isinstance(other, Node) and order[other] < product
    return is_known and sizes(user) == sizes(node) and not writes_into_other
