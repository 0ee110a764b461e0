"""The rows of a model that stand for tokens, in its look-up table and output heads: found without names, and cut."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.resizing.attribute_edits import AttributeEdit, apply_edits
from edgefold.resizing.fields import (
    build_like,
    has_configuration,
    named_tensors,
    parameter_shapes,
    similar_configurations,
)
from edgefold.structure.layer_sharing import share_by_name, shared_names, with_every_name

Inputs = Mapping[str, Tensor]
ROW_ATTRIBUTES = {nn.Embedding: "num_embeddings", nn.Linear: "out_features"}


def find_table(model: nn.Module, inputs: Inputs | None) -> str:
    """The table that token ids look up: that of `input_ids`, else the largest that an input looks up.

    Without inputs, the table that a Hugging Face model says it has.

    Raises:
        InputError: there is none.
    """
    if inputs is None:
        if not hasattr(model, "get_input_embeddings"):
            raise InputError(
                f"{type(model).__name__} does not say which table its tokens look up; pass inputs=, example keyword "
                "tensors of forward."
            )
        table = cast(Any, model).get_input_embeddings().weight
        return next(name for name, parameter in model.named_parameters() if parameter is table)
    lookups = trace(model, inputs).lookups
    found = {str(ids.target): name for _, name, ids in lookups if ids.op == "placeholder"}
    if not found:
        raise InputError(f"No input of {type(model).__name__} looks up a table, so it has no vocabulary to trim.")
    return found.get("input_ids") or max(found.values(), key=lambda name: len(model.get_parameter(name)))


def special_ids(model: nn.Module) -> set[int]:
    """The token ids that a configuration names (fields ending in _token_id or _token_ids), and padding rows."""
    configs = [config for name in ("config", "generation_config") if (config := getattr(model, name, None)) is not None]
    found = {index for config in configs for value in _id_fields(config).values() for index in _as_list(value)}
    return found | {m.padding_idx for m in model.modules() if isinstance(m, nn.Embedding) and m.padding_idx is not None}


def keep_rows(model: nn.Module, table: str, rows: Sequence[int], inputs: Inputs | None) -> nn.Module:
    """A copy whose vocabulary is these rows of the old one, in their order.

    Raises:
        InputError: no configuration and no patch gives the table that many rows.
    """
    configured = _configured(model, table, rows) if has_configuration(model) else None
    if configured is not None:
        return configured
    if inputs is None:
        raise InputError(
            f"The configuration of {type(model).__name__} does not set the size of {table}; pass inputs=, example "
            "keyword tensors of forward, so that what belongs to the vocabulary can be traced."
        )
    return _patched(model, table, rows, inputs)


def _configured(model: nn.Module, table: str, rows: Sequence[int]) -> nn.Module | None:
    """The class at the smaller vocabulary: integers of the configuration that equal the old size, as few as will do."""
    tensors = named_tensors(model)
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    size = tensors[table].shape[0]
    positions = {old: new for new, old in enumerate(rows)}
    start = _with_new_ids(cast(Any, model).config, positions)
    for config in similar_configurations(start, {size: [len(rows)]}, []):
        shapes = parameter_shapes(type(model), config)
        if shapes is None or shapes.get(table, (0,))[0] != len(rows):
            continue
        if shapes.keys() == parameters and all(_axes(tensors[n].shape, s, size) is not None for n, s in shapes.items()):
            fresh = build_like(model, config)
            if hasattr(model, "generation_config"):
                cast(Any, fresh).generation_config = _with_new_ids(model.generation_config, positions)
            return _filled(fresh, tensors, rows, size)
    return None


def _filled(fresh: nn.Module, tensors: Mapping[str, Tensor], rows: Sequence[int], size: int) -> nn.Module:
    with torch.no_grad():
        for name, tensor in named_tensors(fresh).items():
            source = tensors.get(name)
            axes = _axes(source.shape, tensor.shape, size) if source is not None else None
            if source is not None and axes is not None:
                tensor.copy_(_taken(source, axes, rows))
    return fresh


def _patched(model: nn.Module, table: str, rows: Sequence[int], inputs: Inputs) -> nn.Module:
    """Any module: the axes traced to the table's rows, or to an output of their number, and attributes of that size."""
    graph = with_every_name(trace(model, inputs), model)
    size = graph.layouts[table][0][0].size
    along = {graph.layouts[table][0][0].dimension}
    along |= {d.name for d in graph if d.size == size and "an axis of the output" in d.reason}
    tensors = {
        name: _taken(tensor.detach(), axes, rows)
        for name, tensor in named_tensors(model).items()
        if (axes := [i for i, axis in enumerate(graph.layouts.get(name, ())) if along & {f.dimension for f in axis}])
    }
    positions = {old: new for new, old in enumerate(rows)}
    edits = _attribute_edits(model, tensors, size, positions)
    smaller = apply_edits(copied(model), tuple(edits), {name: tuple(t.shape) for name, t in tensors.items()})
    share_by_name(smaller, shared_names(model))
    with torch.no_grad():
        for name, tensor in named_tensors(smaller).items():
            if name in tensors:
                tensor.copy_(tensors[name])
    return smaller


def _attribute_edits(
    model: nn.Module, tensors: Mapping[str, Tensor], size: int, positions: Mapping[int, int]
) -> list[AttributeEdit]:
    edits = []
    for path, module in model.named_modules():
        own = tensors.get(f"{path}.weight" if path else "weight")
        attribute = next((name for kind, name in ROW_ATTRIBUTES.items() if isinstance(module, kind)), None)
        if attribute is None:
            found = [name for name, value in vars(module).items() if value == size and type(value) is int]
            edits += [AttributeEdit(path, name, len(positions)) for name in found]
        elif own is not None:
            edits.append(AttributeEdit(path, attribute, len(own)))
            if isinstance(module, nn.Embedding) and module.padding_idx is not None:
                edits.append(AttributeEdit(path, "padding_idx", positions[module.padding_idx]))
    return edits


def _axes(before: Sequence[int], after: Sequence[int], size: int) -> list[int] | None:
    """The axes that shrank from the vocabulary's size; None where anything else differs."""
    if len(before) != len(after):
        return None
    changed = [axis for axis, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    return changed if all(before[axis] == size for axis in changed) else None


def _taken(tensor: Tensor, axes: Sequence[int], rows: Sequence[int]) -> Tensor:
    index = torch.tensor(rows, device=tensor.device)
    for axis in axes:
        tensor = tensor.index_select(axis, index)
    return tensor


def _with_new_ids(config: Any, positions: Mapping[int, int]) -> Any:
    """A copy of a configuration whose token ids are renumbered; one outside the vocabulary stays as it is."""
    renumbered = copy.deepcopy(config)
    for name, value in _id_fields(config).items():
        new = [positions.get(index, index) for index in _as_list(value)]
        setattr(renumbered, name, new if isinstance(value, list) else new[0])
    return renumbered


def _id_fields(config: Any) -> dict[str, int | list[int]]:
    return {
        name: value
        for name, value in config.to_dict().items()
        if name.endswith(("_token_id", "_token_ids")) and (ids := _as_list(value)) and all(type(i) is int for i in ids)
    }


def _as_list(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]
