"""forward_graph(): one forward pass as a graph of aten operators."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, export
from torch.fx import GraphModule

from edgefold.tracing.autocast_regions import inline_autocast
from edgefold.tracing.quiet_tracing import quiet


def forward_graph(model: nn.Module, inputs: Mapping[str, Tensor]) -> GraphModule:
    """`model.forward(**inputs)` by torch.export; the first two axes of each input are dynamic where the model allows.

    It shares the model's parameters, and computes as the model's mode of now says. Raises whatever torch.export does.
    """
    dynamic = {name: dict.fromkeys(range(min(value.dim(), 2)), Dim.AUTO) for name, value in inputs.items()}
    with torch.no_grad(), warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        program = export(model, (), dict(inputs), dynamic_shapes=dynamic, strict=False)
        module: GraphModule = program.module(check_guards=False)
    inline_autocast(module)
    return module
