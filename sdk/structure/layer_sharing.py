"""Sharing parameters across layers: one set for each group of layers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from edgefold.dimensions import DimensionGraph
from edgefold.structure.stacks import common_parameters


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


def with_every_name(graph: DimensionGraph, model: nn.Module) -> DimensionGraph:
    """The same graph with the layout of a shared parameter under each of its names."""
    more = {name: graph.layouts[owner] for name, owner in shared_names(model).items() if owner in graph.layouts}
    return replace(graph, layouts={**graph.layouts, **more})
