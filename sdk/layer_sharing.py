"""Sharing parameters across layers: one set for each group of layers, and a trace that knows them as one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from edgefold.dimensions import DimensionGraph, Factor, Member
from edgefold.stacks import common_parameters


def share_layers(layers: Sequence[nn.Module], start: str = "mean") -> None:
    """Let all layers use the parameters of the first, in place; they start from the mean of all, or as the first's.

    Parameters that only some of the layers have stay their own.
    """
    for name in common_parameters(list(layers)):
        shared = layers[0].get_parameter(name)
        if start == "mean":
            with torch.no_grad():
                shared.copy_(torch.stack([layer.get_parameter(name).double() for layer in layers]).mean(0))
        for layer in layers[1:]:
            set_parameter(layer, name, shared)


def set_parameter(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Let a qualified name stand for this very parameter, in place."""
    path, _, attribute = name.rpartition(".")
    setattr(module.get_submodule(path), attribute, parameter)


def shared_names(module: nn.Module) -> dict[str, str]:
    """Every further name of a parameter -> its first."""
    first: dict[int, str] = {}
    names = [(name, first.setdefault(id(p), name)) for name, p in module.named_parameters(remove_duplicate=False)]
    return {name: owner for name, owner in names if name != owner}


def share_by_name(module: nn.Module, names: Mapping[str, str]) -> None:
    """Give every name the parameter of its owner, in place."""
    for name, owner in names.items():
        set_parameter(module, name, module.get_parameter(owner))


def merge_shared(graph: DimensionGraph, model: nn.Module) -> DimensionGraph:
    """The same graph with one name and one layout for each parameter, whichever name the trace has met it by."""
    owners = shared_names(model)

    def owner(name: str | None) -> str | None:
        return owners.get(name, name) if name else name

    used = {str(node.target) for node in graph.module.graph.nodes if node.op == "get_attr" and node.users}
    known = {owners.get(name, name): layout for name, layout in graph.layouts.items() if name in used}
    layouts = {name: known.get(owners.get(name, name), layout) for name, layout in graph.layouts.items()}
    members = _members({name: layout for name, layout in layouts.items() if name not in owners})
    return replace(
        graph,
        layouts=layouts,
        dimensions=tuple(replace(d, members=members[d.name]) for d in graph.dimensions if d.name in members),
        reads=tuple(
            replace(read, parameter=owners.get(read.parameter, read.parameter), bias=owner(read.bias))
            for read in graph.reads
        ),
        norms=tuple(replace(norm, weight=owner(norm.weight), bias=owner(norm.bias)) for norm in graph.norms),
        lookups=tuple((node, owners.get(table, table), ids) for node, table, ids in graph.lookups),
    )


def _members(layouts: Mapping[str, tuple[tuple[Factor, ...], ...]]) -> dict[str, tuple[Member, ...]]:
    members: dict[str, dict[Member, None]] = {}
    for name, layout in layouts.items():
        for axis, factors in enumerate(layout):
            for factor in factors:
                members.setdefault(factor.dimension, {})[Member(name, axis)] = None
    return {dimension: tuple(found) for dimension, found in members.items()}
