"""Weights that the exporter left to be computed in every run (weight norm, spectral norm, any parametrization)."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod

import onnx_ir
from onnx_ir import Node, Value
from onnx_ir.passes.common import RemoveUnusedNodesPass
from onnxscript.optimizer import fold_constants


@dataclass
class _Group:
    """Nodes that compute values of parameters alone, and share parameters."""

    nodes: set[Node] = field(default_factory=set)
    weights: dict[str, Value] = field(default_factory=dict)

    @property
    def results(self) -> list[Value]:
        """What is read outside of the group."""
        return [value for node in self.nodes for value in node.outputs if _is_read_outside(value, self.nodes)]

    def saves(self) -> bool:
        """Whether its results take no more room than its parameters, none of which has another reader."""
        sizes = [_size(value) for value in self.results]
        if any(_is_read_outside(weight, self.nodes) for weight in self.weights.values()) or None in sizes:
            return False
        return sum(filter(None, sizes)) <= sum(_size(weight) or 0 for weight in self.weights.values())


def store_computed(model: onnx_ir.Model) -> int:
    """Compute in place what depends on parameters alone; returns how many values became constants.

    int8, weight-only formats and sparsity are for constant operands. What would take more room than the parameters that
    it is computed of, or is computed of those that are read elsewhere too (a tied embedding), stays.
    """
    groups = [group for group in _groups(model.graph) if group.saves()]
    chosen = {node for group in groups for node in group.nodes}
    count = sum(len(group.results) for group in groups)
    names = {name for group in groups for name in group.weights}

    def is_chosen(node: Node) -> bool:
        """Also what the folding puts in place of a chosen node, which reads the same."""
        if node not in chosen and not any(value.name in names for value in node.inputs if value is not None):
            return False
        names.update(str(value.name) for value in node.outputs)
        return True

    if chosen:
        fold_constants(model, should_fold=is_chosen, output_size_limit=sys.maxsize)
        RemoveUnusedNodesPass()(model)
    return count


def _groups(graph: onnx_ir.Graph) -> Iterable[_Group]:
    owner: dict[Value, _Group] = {}
    for node in graph:
        operands = [value for value in node.inputs if value is not None]
        if not operands or not _is_plain(node) or not all(_is_constant(v) or v in owner for v in operands):
            continue
        group = _Group({node})
        for value in operands:
            if value in owner or _is_weight(value):
                group = _joined(owner.get(value) or _Group(weights={str(value.name): value}), group, owner)
                owner[value] = group
        owner |= dict.fromkeys(node.outputs, group)
    return [group for group in {id(group): group for group in owner.values()}.values() if group.weights]


def _joined(a: _Group, b: _Group, owner: dict[Value, _Group]) -> _Group:
    if a is b:
        return a
    a.nodes |= b.nodes
    a.weights |= b.weights
    owner |= {value: a for value, group in owner.items() if group is b}
    return a


def _is_plain(node: Node) -> bool:
    kinds = {attribute.type for attribute in node.attributes.values()}
    has_graph = bool(kinds & {onnx_ir.AttributeType.GRAPH, onnx_ir.AttributeType.GRAPHS})
    return node.domain == "" and not has_graph and not node.op_type.startswith(("Random", "Bernoulli", "Multinomial"))


def _is_constant(value: Value) -> bool:
    producer = value.producer()
    is_constant = producer is not None and producer.op_type == "Constant" and producer.domain == ""
    return is_constant or (value.is_initializer() and not value.is_graph_input())


def _is_weight(value: Value) -> bool:
    """A tensor of fractions: single numbers, shapes and places cost nothing and may have any number of readers."""
    constant = value.const_value
    return constant is not None and constant.dtype.is_floating_point() and constant.size > 1


def _is_read_outside(value: Value, nodes: set[Node]) -> bool:
    return value.is_graph_output() or any(node not in nodes for node, _ in value.uses())


def _size(value: Value) -> int | None:
    """In elements; None where it is not known."""
    if value.shape is None or not value.shape.is_static():
        return None
    return prod(value.shape.numpy())
