"""The smaller module: the same architecture at new sizes, found by trying, never from a table of models.

A Hugging Face model is solved for its configuration: the integer fields that equal an old size, tried until every
parameter
has the predicted shape. Any other module is copied and its size attributes are patched. Either way a new trace must
find the predicted layout of every parameter; otherwise the plan is refused.
"""

import copy
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import DimensionGraph, Factor, trace
from edgefold.errors import InputError
from edgefold.projections import mapped_shape

MAX_TRIALS = 256
LEAF_AXES: dict[type[nn.Module], tuple[tuple[str, int], ...]] = {
    nn.Linear: (("out_features", 0), ("in_features", 1)),
    nn.Embedding: (("num_embeddings", 0), ("embedding_dim", 1)),
    nn.BatchNorm1d: (("num_features", 0),),
    nn.BatchNorm2d: (("num_features", 0),),
    nn.BatchNorm3d: (("num_features", 0),),
}
"""torch's own layers: which attribute repeats which axis of `weight`."""


@dataclass(frozen=True)
class AttributeEdit:
    """Set a size attribute of one submodule."""

    module: str
    attribute: str
    value: int | tuple[int, ...]


@dataclass(frozen=True)
class Group:
    """One attribute with one value in all modules of one class: they change together."""

    attribute: str
    value: int
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Resized:
    """A smaller module whose weights are still to be filled."""

    module: nn.Module
    sizes: Mapping[str, int]
    """The new size of every resized dimension, those that had to follow included."""
    edits: tuple[AttributeEdit, ...] = field(default=())
    """Empty when the configuration alone says it all."""


def resize_module(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], new_sizes: Mapping[str, int]
) -> Resized:
    """Build `model`'s architecture with some dimensions at new sizes.

    Raises:
        InputError: no way was found; names what stood in the way.
    """
    changed = {name: size for name, size in new_sizes.items() if size != graph[name].size}
    if not changed:
        return Resized(copy.deepcopy(model), dict(new_sizes))
    if hasattr(model, "config") and callable(getattr(model.config, "to_dict", None)):
        solved = _solve_configuration(model, graph, inputs, changed)
        if solved is not None:
            return Resized(solved.module, {**new_sizes, **solved.sizes})
    patched = _patch_attributes(model, graph, inputs, changed)
    return Resized(patched.module, dict(new_sizes), patched.edits)


def apply_edits(model: nn.Module, edits: tuple[AttributeEdit, ...], shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """Give a module of the original architecture the attributes and parameter shapes of a resized one, in place."""
    for edit in edits:
        setattr(model.get_submodule(edit.module), edit.attribute, edit.value)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in shapes and tuple(tensor.shape) != tuple(shapes[name]):
            _replace_tensor(model, name, torch.zeros(shapes[name], dtype=tensor.dtype, device=tensor.device))
    return model


def _predicted(graph: DimensionGraph, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    return {name: mapped_shape(layout, sizes) for name, layout in graph.layouts.items()}


# --- a configuration -------------------------------------------------------------------------------------------------


def _solve_configuration(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], changed: Mapping[str, int]
) -> Resized | None:
    """Try the integer fields of the configuration that equal an old size, as few of them changed as will do."""
    config: Any = model.config
    choices = _field_choices(config, graph, changed)
    candidates = sorted(
        product(*([(name, value) for value in values] for name, values in choices.items())),
        key=lambda fields: sum(value != getattr(config, name) for name, value in fields),
    )
    for fields in candidates[:MAX_TRIALS]:
        sizes = _configured_sizes(model, graph, changed, dict(fields))
        if sizes is None:
            continue
        with torch.random.fork_rng(devices=[]):
            module = type(model)(_with_fields(config, dict(fields)))
        module = module.to(next(model.parameters()).dtype).eval()
        if _trace_agrees(module, graph, inputs, sizes):
            return Resized(module, sizes)
    return None


def _field_choices(config: Any, graph: DimensionGraph, changed: Mapping[str, int]) -> dict[str, list[int]]:
    """For each integer field that equals an old size: the new sizes it may take, and its own."""
    replacements: dict[int, list[int]] = {}
    for name, size in changed.items():
        replacements.setdefault(graph[name].size, []).append(size)
    for old, new in _axis_sizes(graph, changed):
        replacements.setdefault(old, []).append(new)
    return {
        name: [*dict.fromkeys(replacements[value]), value]
        for name, value in config.to_dict().items()
        if isinstance(value, int) and not isinstance(value, bool) and value in replacements and hasattr(config, name)
    }


def _with_fields(config: Any, fields: Mapping[str, int]) -> Any:
    resized = copy.deepcopy(config)
    for name, value in fields.items():
        setattr(resized, name, value)
    return resized


def _configured_sizes(
    model: nn.Module, graph: DimensionGraph, changed: Mapping[str, int], fields: Mapping[str, int]
) -> dict[str, int] | None:
    """The dimension sizes under these fields if every parameter then has a predictable shape, else None.

    A dimension that the plan leaves alone but the configuration ties to another (a pooler as wide as the residual
    stream) follows, where a selection can make it do so.
    """
    try:
        with torch.device("meta"):
            shapes = {
                name: tuple(p.shape) for name, p in type(model)(_with_fields(model.config, fields)).named_parameters()
            }
    except Exception:  # a combination that the architecture itself refuses is simply not a solution
        return None
    sizes = dict(changed)
    for name, predicted in _predicted(graph, sizes).items():
        for axis, (is_size, was_size) in enumerate(zip(shapes.get(name, ()), predicted, strict=False)):
            factors = graph.layouts[name][axis]
            if is_size != was_size and len(factors) == 1 and _may_follow(graph, factors[0], is_size, sizes):
                sizes[factors[0].dimension] = is_size
    expected = _predicted(graph, sizes)
    return sizes if all(shapes[name] == expected[name] for name in shapes if name in expected) else None


def _may_follow(graph: DimensionGraph, factor: Factor, size: int, sizes: Mapping[str, int]) -> bool:
    return factor.dimension not in sizes and size < factor.size and graph[factor.dimension].kind == "permutation"


# --- attributes ------------------------------------------------------------------------------------------------------


def _patch_attributes(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], changed: Mapping[str, int]
) -> Resized:
    """Copy the module, replace its tensors, patch its size attributes; try the ambiguous ones in turn."""
    shapes = _predicted(graph, changed)
    certain, choices = _attribute_choices(model, graph, shapes, changed)
    failure = "no assignment of its size attributes gives the predicted shapes"
    for values in islice(product(*choices.values()), MAX_TRIALS):
        chosen = dict(zip(choices, values, strict=True))
        try:
            module, _ = _patched(model, certain, chosen, shapes, inputs)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}: {frame.line}"
            failure = f"{str(error).strip().splitlines()[0]} ({place})"
            continue
        if _trace_agrees(module, graph, inputs, changed):
            chosen = _without_needless(model, graph, certain, chosen, shapes, inputs, changed)
            module, edits = _patched(model, certain, chosen, shapes, inputs)
            return Resized(module, changed, edits)
    wanted = ", ".join(f"{name} {graph[name].size} -> {size}" for name, size in changed.items())
    raise InputError(
        f"{type(model).__name__} cannot be built at the sizes {wanted}: {failure}. A size written as a literal "
        "in forward "
        "cannot be changed from outside; make it an attribute of the module, or leave that dimension out of the plan."
    )


def _patched(
    model: nn.Module,
    certain: Sequence[AttributeEdit],
    chosen: Mapping[Group, int],
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Mapping[str, Tensor],
) -> tuple[nn.Module, tuple[AttributeEdit, ...]]:
    """A patched copy that has run once, with its edits."""
    guessed = [
        AttributeEdit(path, group.attribute, value)
        for group, value in chosen.items()
        for path in group.modules
        if value != group.value
    ]
    edits = (*certain, *guessed)
    module = apply_edits(copy.deepcopy(model), edits, shapes).eval()
    with torch.no_grad():
        module(**inputs)
    return module, edits


def _without_needless(
    model: nn.Module,
    graph: DimensionGraph,
    certain: Sequence[AttributeEdit],
    chosen: Mapping[Group, int],
    shapes: Mapping[str, tuple[int, ...]],
    inputs: Mapping[str, Tensor],
    changed: Mapping[str, int],
) -> dict[Group, int]:
    """Take back each change that alters the function although the shapes do not need it: a number that only looked like
    a size (a factor, a count of repeats) keeps the teacher's value."""
    kept = dict(chosen)
    for group in [group for group, value in chosen.items() if value != group.value]:
        trial = {**kept, group: group.value}
        try:
            module, _ = _patched(model, certain, trial, shapes, inputs)
        except Exception:  # it is needed
            continue
        current, _ = _patched(model, certain, kept, shapes, inputs)
        if not _same_function(module, current, inputs) and _trace_agrees(module, graph, inputs, changed):
            kept = trial
    return kept


def _same_function(a: nn.Module, b: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether two copies with the same random weights give the same outputs."""
    outputs = []
    for module in (a, b):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            outputs.append(tree_leaves(module(**inputs)))
    tensors = [[leaf for leaf in leaves if isinstance(leaf, Tensor)] for leaves in outputs]
    return all(x.shape == y.shape and torch.equal(x, y) for x, y in zip(*tensors, strict=True))


def _attribute_choices(
    model: nn.Module, graph: DimensionGraph, shapes: Mapping[str, tuple[int, ...]], changed: Mapping[str, int]
) -> tuple[list[AttributeEdit], dict[Group, list[int]]]:
    """The certain edits of torch's own layers, and for the other modules' size attributes what each may become."""
    certain: list[AttributeEdit] = []
    found: dict[tuple[str, str, int], list[str]] = {}
    for path, module in model.named_modules():
        own = {
            name: shapes[full]
            for name, _ in module.named_parameters(recurse=False)
            if (full := _join(path, name)) in shapes
        }
        leaf = _leaf_edits(path, module, own)
        if leaf is not None:
            certain += leaf
            continue
        for attribute, value in vars(module).items():
            if isinstance(value, int) and not isinstance(value, bool) and not attribute.startswith("_"):
                found.setdefault((type(module).__name__, attribute, value), []).append(path)
    replacements: dict[int, list[int]] = {}
    for old, new in [*((graph[name].size, size) for name, size in changed.items()), *_axis_sizes(graph, changed)]:
        replacements.setdefault(old, []).append(new)
    choices = {
        Group(attribute, value, tuple(paths)): [*dict.fromkeys(replacements[value]), value]
        for (_, attribute, value), paths in found.items()
        if value in replacements
    }
    return certain, choices


def _leaf_edits(path: str, module: nn.Module, own: Mapping[str, tuple[int, ...]]) -> list[AttributeEdit] | None:
    """The edits of one of torch's own layers; None for any other module."""
    if isinstance(module, nn.LayerNorm):
        return [AttributeEdit(path, "normalized_shape", own["weight"])] if "weight" in own else []
    if isinstance(module, nn.modules.conv._ConvNd):
        if "weight" not in own:
            return []
        depthwise = module.groups > 1
        outputs = own["weight"][0]
        inputs, groups = (outputs, outputs) if depthwise else (own["weight"][1], 1)
        pairs = {"out_channels": outputs, "in_channels": inputs, "groups": groups}
        return [AttributeEdit(path, name, value) for name, value in pairs.items()]
    for leaf, axes in LEAF_AXES.items():
        if isinstance(module, leaf):
            return [AttributeEdit(path, name, own["weight"][axis]) for name, axis in axes if "weight" in own]
    return None


# --- shared ----------------------------------------------------------------------------------------------------------


def _axis_sizes(graph: DimensionGraph, changed: Mapping[str, int]) -> list[tuple[int, int]]:
    """Old and new sizes of whole parameter axes that are products (heads x head_dim)."""
    pairs = []
    for layout in graph.layouts.values():
        for axis in layout:
            if len(axis) > 1 and any(factor.dimension in changed for factor in axis):
                old = prod(factor.size for factor in axis)
                pairs.append((old, prod(changed.get(factor.dimension, factor.size) for factor in axis)))
    return list(dict.fromkeys(pairs))


def _trace_agrees(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> bool:
    """Whether a new trace finds each parameter laid out as predicted, factor by factor."""
    try:
        traced = trace(module, inputs)
    except InputError:
        return False
    found = {name: [[f.size for f in axis] for axis in layout] for name, layout in traced.layouts.items()}
    predicted = {
        name: [[sizes.get(f.dimension, f.size) for f in axis] for axis in layout]
        for name, layout in graph.layouts.items()
    }
    return _without_ones(found) == _without_ones(predicted)


def _without_ones(layouts: Mapping[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    return {name: [[size for size in axis if size != 1] for axis in layout] for name, layout in layouts.items()}


def _replace_tensor(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    if attribute in owner._parameters:
        setattr(owner, attribute, nn.Parameter(value))
    else:
        owner.register_buffer(attribute, value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
