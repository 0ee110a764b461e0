"""forward_graph(): one forward pass as a graph of aten operators."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.fx import GraphModule

from edgefold.tracing.quiet_tracing import quiet
from edgefold.tracing.regions import inline_regions


def forward_graph(model: nn.Module, inputs: Mapping[str, Tensor]) -> GraphModule:
    """`model.forward(**inputs)` by torch.export; the first two axes of each input are dynamic where the model allows.

    It shares the model's parameters, and computes as the model's mode of now says. Raises whatever torch.export does.
    """
    try:
        module = _graph(model, inputs, True)
    except Exception:  # a forward that changes its parameters, as no gradient allows
        module = _graph(model, inputs, False)
    inline_regions(module)
    return module


def _graph(model: nn.Module, inputs: Mapping[str, Tensor], has_gradients: bool) -> GraphModule:
    """With gradients on, a trace shows what runs without them."""
    dynamic = {name: dict.fromkeys(range(min(value.dim(), 2)), Dim.AUTO) for name, value in inputs.items()}
    with torch.set_grad_enabled(has_gradients), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        program = export(model, (), dict(inputs), dynamic_shapes=dynamic, strict=False)
        module: GraphModule = program.module(check_guards=False)
    return module
