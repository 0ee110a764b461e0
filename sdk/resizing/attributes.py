"""Any module at other sizes, by its attributes: a copy with its size attributes patched, ambiguous ones in turn."""

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.copies import copied
from edgefold.dimensions import DimensionGraph
from edgefold.resizing.agreement import agreeing_trace, predicted_shapes, replacements
from edgefold.resizing.attribute_edits import AttributeEdit, apply_edits
from edgefold.resizing.fields import MAX_TRIALS
from edgefold.resizing.layouts import leading_size

LEAF_AXES: dict[type[nn.Module], tuple[tuple[str, int], ...]] = {
    nn.Linear: (("out_features", 0), ("in_features", 1)),
    nn.Embedding: (("num_embeddings", 0), ("embedding_dim", 1)),
    nn.BatchNorm1d: (("num_features", 0),),
    nn.BatchNorm2d: (("num_features", 0),),
    nn.BatchNorm3d: (("num_features", 0),),
}
"""torch's own layers: which attribute repeats which axis of `weight`."""


Values = tuple[int, ...]
"""Of one attribute, in each module of a group."""


@dataclass(frozen=True)
class Group:
    """One attribute with one value in all modules of one class: they change together, each to the size that it sees."""

    attribute: str
    value: int
    modules: tuple[str, ...]

    @property
    def unchanged(self) -> Values:
        return (self.value,) * len(self.modules)


@dataclass(frozen=True)
class Patched:
    """A copy with other size attributes."""

    module: nn.Module
    edits: tuple[AttributeEdit, ...]
    graph: DimensionGraph
    """Of the copy itself."""


def patch_attributes(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], changed: Mapping[str, int]
) -> Patched | str:
    """Copy the module, replace its tensors, patch its size attributes; try the ambiguous ones in turn.

    The reason why, where no assignment will do.
    """
    shapes = predicted_shapes(graph, changed)
    certain, choices = _attribute_choices(model, graph, shapes, changed)
    failure = "no assignment of its size attributes gives the predicted shapes"
    for values in islice(product(*choices.values()), MAX_TRIALS):
        chosen = dict(zip(choices, values, strict=True))
        try:
            module, edits = _patched(model, certain, chosen, shapes, inputs)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {frame.line}"
            failure = f"{str(error).strip().splitlines()[0]} ({place})"
            continue
        traced = agreeing_trace(module, graph, inputs, changed)
        if traced is not None:
            found = Patched(module, edits, traced)
            return _without_needless(found, model, graph, certain, chosen, shapes, inputs, changed)
    return failure


def _patched(
    model: nn.Module,
    certain: Sequence[AttributeEdit],
    chosen: Mapping[Group, Values],
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Mapping[str, Tensor],
) -> tuple[nn.Module, tuple[AttributeEdit, ...]]:
    """A patched copy that has run once, with its edits."""
    guessed = [
        AttributeEdit(path, group.attribute, value)
        for group, values in chosen.items()
        for path, value in zip(group.modules, values, strict=True)
        if value != group.value
    ]
    edits = (*certain, *guessed)
    module = apply_edits(copied(model), edits, shapes).eval()
    with torch.no_grad():
        module(**inputs)
    return module, edits


def _without_needless(
    found: Patched,
    model: nn.Module,
    graph: DimensionGraph,
    certain: Sequence[AttributeEdit],
    chosen: Mapping[Group, Values],
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Mapping[str, Tensor],
    changed: Mapping[str, int],
) -> Patched:
    """Take back each change that alters the function although the shapes do not need it: a number that only looked like
    a size (a factor, a count of repeats) keeps the teacher's value."""
    kept = dict(chosen)
    for group in [group for group, values in chosen.items() if values != group.unchanged]:
        trial = {**kept, group: group.unchanged}
        try:
            module, edits = _patched(model, certain, trial, shapes, inputs)
        except Exception:  # it is needed
            continue
        if _same_function(module, found.module, inputs):
            continue
        traced = agreeing_trace(module, graph, inputs, changed)
        if traced is not None:
            found, kept = Patched(module, edits, traced), trial
    return found


def _same_function(a: nn.Module, b: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether two modules give the same outputs under the same random weights, by which no activation runs away."""
    outputs = []
    for module in (copied(a), copied(b)):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                fan_in = parameter.numel() // max(1, len(parameter)) if parameter.dim() > 1 else 1
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, fan_in) ** 0.5)
            for buffer in module.buffers():  # no variance of zero
                buffer.copy_(torch.ones_like(buffer) if buffer.is_floating_point() else buffer)
            outputs.append(tree_leaves(module(**inputs)))
    tensors = [[leaf for leaf in leaves if isinstance(leaf, Tensor)] for leaves in outputs]
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(*tensors, strict=True))


def _attribute_choices(
    model: nn.Module, graph: DimensionGraph, shapes: Mapping[str, tuple[int, ...]], changed: Mapping[str, int]
) -> tuple[list[AttributeEdit], dict[Group, list[Values]]]:
    """The certain edits of torch's own layers, and for the other modules' size attributes what each may become."""
    certain: list[AttributeEdit] = []
    found: dict[tuple[str, str, int], list[str]] = {}
    for path, module in model.named_modules():
        own = {
            name: shapes[full]
            for name, _ in module.named_parameters(recurse=False)
            if (full := _join(path, name)) in shapes
        }
        leaf = _leaf_edits(path, module, own, graph, changed)
        if leaf is not None:
            certain += leaf
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, int) and not isinstance(value, bool) and not attribute.startswith("_"):
                found.setdefault((type(module).__name__, attribute, value), []).append(path)
    new = replacements(graph, changed)
    groups = [Group(attribute, value, tuple(paths)) for (_, attribute, value), paths in found.items() if value in new]
    return certain, {group: _values(group, graph, new[group.value], changed) for group in groups}


def _values(group: Group, graph: DimensionGraph, new: Sequence[int], changed: Mapping[str, int]) -> list[Values]:
    """What the attribute may become in each module: first the new size of what has parameters there, as where layers
    differ; then one size for all; then what it was."""
    local = tuple(
        replacements(graph, changed, within=path).get(group.value, [group.value])[0] for path in group.modules
    )
    alike = [(value,) * len(group.modules) for value in new]
    return list(dict.fromkeys([*([local] if len(set(local)) > 1 else []), *alike, group.unchanged]))


def _leaf_edits(
    path: str,
    module: nn.Module,
    own: Mapping[str, tuple[int, ...]],
    graph: DimensionGraph,
    changed: Mapping[str, int],
) -> list[AttributeEdit] | None:
    """The edits of one of torch's own layers; None for any other module."""

    def groups(count: int) -> int:
        return leading_size(graph.layouts[_join(path, "weight")][0], count, changed) if count > 1 else 1

    values: dict[str, Any]
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        values = {"normalized_shape": own.get("weight")}
    elif isinstance(module, nn.GroupNorm):
        values = {"num_channels": own["weight"][0], "num_groups": groups(module.num_groups)} if "weight" in own else {}
    elif isinstance(module, nn.modules.conv._ConvNd):
        count = groups(module.groups) if "weight" in own else 1
        names = ("in_channels", "out_channels") if module.transposed else ("out_channels", "in_channels")
        outer, inner = own["weight"][:2] if "weight" in own else (0, 0)
        values = {names[0]: outer, names[1]: inner * count, "groups": count} if "weight" in own else {}
    else:
        axes = next((axes for leaf, axes in LEAF_AXES.items() if isinstance(module, leaf)), None)
        if axes is None:
            return None
        values = {name: own["weight"][axis] for name, axis in axes} if "weight" in own else {}
    return [AttributeEdit(path, name, value) for name, value in values.items() if value is not None]


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
