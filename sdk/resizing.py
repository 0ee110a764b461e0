"""The smaller module: the same architecture at new sizes, found by trying, never from a table of models.

A Hugging Face model is solved for its configuration: the integer fields that equal an old size, tried until every
parameter
has the predicted shape. Any other module is copied and its size attributes are patched. Either way a new trace must
find the predicted layout of every parameter; otherwise the plan is refused.
"""

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.graph_resizing import resize_graph
from edgefold.layouts import AxisLayout, Factor, axis_names, axis_size, leading_size, resized_layout, resized_shape

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
    is_graph: bool = False
    """Whether it is the traced graph with its literals rewritten."""


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
    patched, failure = _patch_attributes(model, graph, inputs, changed)
    if patched is not None:
        return Resized(patched.module, dict(new_sizes), patched.edits)
    return Resized(_rewrite_literals(model, graph, inputs, changed, failure), dict(new_sizes), is_graph=True)


def apply_edits(model: nn.Module, edits: tuple[AttributeEdit, ...], shapes: Mapping[str, tuple[int, ...]]) -> nn.Module:
    """Give a module of the original architecture the attributes and parameter shapes of a resized one, in place."""
    for edit in edits:
        setattr(model.get_submodule(edit.module), edit.attribute, edit.value)
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    replaced = {
        id(tensor): torch.zeros(shapes[name], dtype=tensor.dtype, device=tensor.device)
        for name, tensor in tensors
        if name in shapes and tuple(tensor.shape) != tuple(shapes[name])
    }
    parameters = {key: nn.Parameter(value) for key, value in replaced.items()}
    for name, tensor in tensors:  # a tied tensor is replaced under each of its names
        if id(tensor) in replaced:
            _replace_tensor(model, name, (parameters if isinstance(tensor, nn.Parameter) else replaced)[id(tensor)])
    return model


def _predicted(graph: DimensionGraph, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    return {name: resized_shape(layout, sizes) for name, layout in graph.layouts.items()}


# --- a configuration -------------------------------------------------------------------------------------------------


def _solve_configuration(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], changed: Mapping[str, int]
) -> Resized | None:
    """Try the integer fields of the configuration that equal an old size, as few of them changed as will do."""
    config: Any = model.config
    for fields in _candidates(config, graph, changed):
        sizes = _configured_sizes(model, graph, changed, fields)
        if sizes is None:
            continue
        with torch.random.fork_rng(devices=[]):
            module = type(model)(_with_fields(config, fields))
        module = module.to(next(model.parameters()).dtype).eval()
        if _trace_agrees(module, graph, inputs, sizes):
            return Resized(module, sizes)
    return None


def _candidates(config: Any, graph: DimensionGraph, changed: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Assignments of integer fields; then those with one field more that the configuration leaves open (None)."""
    choices = _field_choices(config, graph, changed)
    assignments = sorted(
        product(*([(name, value) for value in values] for name, values in choices.items())),
        key=lambda fields: sum(value != getattr(config, name) for name, value in fields),
    )[:MAX_TRIALS]
    yield from (dict(fields) for fields in assignments)
    unset = [name for name, value in config.to_dict().items() if value is None and hasattr(config, name)]
    sizes = dict.fromkeys(changed.values())
    for name, size in islice(product(unset, sizes), MAX_TRIALS // 4):
        yield from ({**dict(fields), name: size} for fields in assignments[-4:])


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
    return (
        not factor.parts
        and factor.dimension not in sizes
        and size < factor.size
        and graph[factor.dimension].kind == "permutation"
    )


# --- attributes ------------------------------------------------------------------------------------------------------


def _patch_attributes(
    model: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], changed: Mapping[str, int]
) -> tuple[Resized | None, str]:
    """Copy the module, replace its tensors, patch its size attributes; try the ambiguous ones in turn.

    None with the reason where no assignment will do.
    """
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
            return Resized(module, changed, edits), ""
    return None, failure


def _rewrite_literals(
    model: nn.Module,
    graph: DimensionGraph,
    inputs: Mapping[str, Tensor],
    changed: Mapping[str, int],
    failure: str,
) -> nn.Module:
    """The traced graph with its literals rewritten; refused where that does not run or is laid out otherwise."""
    module = resize_graph(graph, changed)
    try:
        with torch.no_grad():
            module(**inputs)
    except Exception as error:
        failure = f"{failure}; nor does the traced graph run at them: {str(error).strip().splitlines()[0]}"
    else:
        if _trace_agrees(module, graph, inputs, changed):
            return module
        failure = f"{failure}; and the traced graph has another layout at them"
    wanted = ", ".join(f"{name} {graph[name].size} -> {size}" for name, size in changed.items())
    raise InputError(
        f"{type(model).__name__} cannot be built at the sizes {wanted}: {failure}. Make the size an "
        "attribute of the module that forward reads, or leave that dimension out of the plan."
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
        leaf = _leaf_edits(path, module, own, graph, changed)
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


# --- shared ----------------------------------------------------------------------------------------------------------


def _axis_sizes(graph: DimensionGraph, changed: Mapping[str, int]) -> list[tuple[int, int]]:
    """Old and new sizes of parameter axes, and of the products they consist of (heads x head_dim)."""
    pairs = []
    for layout in graph.layouts.values():
        for axis in layout:
            if not changed.keys().isdisjoint(axis_names(axis)):
                for piece in _pieces(axis):
                    (resized,) = resized_layout((piece,), changed)
                    pairs.append((axis_size(piece), axis_size(resized)))
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1]]


def _pieces(axis: AxisLayout) -> Iterator[AxisLayout]:
    """Every run of successive factors of an axis, and those inside its sums: what a size attribute may state."""
    for start in range(len(axis)):
        for stop in range(start + 1, len(axis) + 1):
            yield axis[start:stop]
    for factor in axis:
        for part in factor.parts:
            yield from _pieces(part)


def _trace_agrees(
    module: nn.Module, graph: DimensionGraph, inputs: Mapping[str, Tensor], sizes: Mapping[str, int]
) -> bool:
    """Whether a new trace finds each parameter laid out as predicted, factor by factor."""
    try:
        traced = trace(module, inputs)
    except InputError:
        return False
    found = {name: _size_tree(layout) for name, layout in traced.layouts.items()}
    return found == {name: _size_tree(resized_layout(layout, sizes)) for name, layout in graph.layouts.items()}


def _size_tree(layout: Sequence[AxisLayout]) -> list[Any]:
    """The sizes of all factors, and of the parts of sums, without those of size 1."""
    return [
        [[_size_tree(factor.parts), factor.size] if factor.parts else factor.size for factor in axis if factor.size > 1]
        for axis in layout
    ]


def _replace_tensor(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(value, nn.Parameter):
        setattr(owner, attribute, value)
    else:
        owner.register_buffer(attribute, value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
