"""The smaller module: the same architecture at new sizes, found by trying, never from a table of models.

A Hugging Face model is solved for its configuration; any other module, or a plan that no configuration describes, is a
copy with its size attributes patched; sizes that are written as literals are rewritten in the traced graph. Each way a
new trace must find the predicted layout of every parameter; otherwise the plan is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.dimensions import DimensionGraph
from edgefold.errors import InputError
from edgefold.resizing.agreement import agreeing_trace
from edgefold.resizing.attribute_edits import AttributeEdit
from edgefold.resizing.attributes import patch_attributes
from edgefold.resizing.configurations import solve_configuration
from edgefold.resizing.fields import has_configuration
from edgefold.resizing.graphs import resize_graph


@dataclass(frozen=True)
class Resized:
    """A smaller module whose weights are still to be filled."""

    module: nn.Module
    sizes: Mapping[str, int]
    """The new size of every resized dimension, those that had to follow included."""
    edits: tuple[AttributeEdit, ...] = field(default=())
    """Empty when the configuration alone says it all."""
    is_graph: bool = False
    """Whether it is the traced graph with its literals rewritten."""
    graph: DimensionGraph | None = field(default=None, repr=False)
    """Of the smaller module itself; None where no size changes."""


def resize_module(
    model: nn.Module,
    graph: DimensionGraph,
    inputs: Mapping[str, Tensor],
    new_sizes: Mapping[str, int],
    *,
    may_follow: bool = True,
) -> Resized:
    """Build `model`'s architecture with some dimensions at new sizes.

    Args:
        may_follow: whether others may change with them where a configuration ties them together.

    Raises:
        InputError: no way was found; names what stood in the way.
    """
    changed = {name: size for name, size in new_sizes.items() if size != graph[name].size}
    if not changed:
        return Resized(copied(model), dict(new_sizes))
    solved = solve_configuration(model, graph, inputs, changed) if has_configuration(model) else None
    if solved is not None and (may_follow or solved[1].keys() <= changed.keys()):
        module, sizes, traced = solved
        return Resized(module, {**new_sizes, **sizes}, graph=traced)
    patched = patch_attributes(model, graph, inputs, changed)
    if not isinstance(patched, str):
        return Resized(patched.module, dict(new_sizes), patched.edits, graph=patched.graph)
    module, traced = _rewrite_literals(model, graph, inputs, changed, patched)
    return Resized(module, dict(new_sizes), is_graph=True, graph=traced)


def _rewrite_literals(
    model: nn.Module,
    graph: DimensionGraph,
    inputs: Mapping[str, Tensor],
    changed: Mapping[str, int],
    failure: str,
) -> tuple[nn.Module, DimensionGraph]:
    """The traced graph with its literals rewritten; refused where that does not run or is laid out otherwise."""
    module = resize_graph(graph, changed)
    try:
        with torch.no_grad():
            module(**inputs)
    except Exception as error:
        failure = f"{failure}; nor does the traced graph run at them: {str(error).strip().splitlines()[0]}"
    else:
        traced = agreeing_trace(module, graph, inputs, changed)
        if traced is not None:
            return module, traced
        failure = f"{failure}; and the traced graph has another layout at them"
    wanted = ", ".join(f"{name} {graph[name].size} -> {size}" for name, size in changed.items())
    raise InputError(
        f"{type(model).__name__} cannot be built at the sizes {wanted}: {failure}. Make the size an "
        "attribute of the module that forward reads, or leave that dimension out of the plan."
    )
