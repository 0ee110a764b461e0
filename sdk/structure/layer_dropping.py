"""Dropping layers: a copy of a model that keeps some layers of its stacks, its configuration following where it can."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.resizing.fields import (
    build_like,
    has_configuration,
    named_tensors,
    parameter_shapes,
    similar_configurations,
)
from edgefold.structure.layer_cutting import Kept, cut_layers, make_runnable, same_function


def drop_layers(model: nn.Module, kept: Kept, inputs: Mapping[str, Tensor]) -> nn.Module:
    """A copy of `model` with these layers of these stacks; it computes what a hand-made model of them computes.

    Where the model's configuration can say so (its integers equal to the old depth, its lists of that length), the copy
    is built from it. What belongs to a place and not to a layer, such as the table of relative positions that T5 keeps
    in its first layer, stays in its place.

    Args:
        kept: for each stack, the indices of the layers that stay.

    Raises:
        InputError: forward fails without the layers.
    """
    if all(indices == tuple(range(stack.depth)) for stack, indices in kept.items()):
        return copied(model)
    cut = cut_layers(model, kept)
    configured = _configured(model, kept) if has_configuration(model) else None
    if configured is not None and _is_faithful(configured, cut, inputs):
        return configured
    return make_runnable(cut, kept, inputs)


def layer_map(kept: Kept) -> dict[str, str]:
    """The path of every layer that stays -> its path before."""
    return {stack.layer(new): stack.layer(old) for stack, indices in kept.items() for new, old in enumerate(indices)}


def path_before(path: str, layers: Mapping[str, str]) -> str:
    """The path that a module or parameter had before layers were dropped."""
    for new, old in layers.items():
        if path == new or path.startswith(f"{new}."):
            return old + path[len(new) :]
    return path


def _is_faithful(configured: nn.Module, cut: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether the configured model has all that the cut one has, and computes the same where neither has more.

    A layer that draws its nature from its place (every third attends globally) would change it with its place.
    """
    names, wanted = set(named_tensors(configured)), set(named_tensors(cut))
    if names != wanted:
        return names > wanted
    with _configuration(cut, cast(Any, configured).config):
        return same_function(configured, cut, inputs)


@contextmanager
def _configuration(model: nn.Module, config: Any) -> Iterator[None]:
    """Within the block, the model reads the fields of another configuration while it runs (layer_types)."""
    own = vars(cast(Any, model).config)
    fields = dict(own)
    own.update(vars(config))
    try:
        yield
    finally:
        own.clear()
        own.update(fields)


def _configured(model: nn.Module, kept: Kept) -> nn.Module | None:
    """The class at its new depth with the layers' weights; None where no configuration has these parameters."""
    sizes: dict[int, list[int]] = {}
    for stack, indices in kept.items():
        sizes.setdefault(stack.depth, []).append(len(indices))
    before = {name: tuple(tensor.shape) for name, tensor in model.named_parameters(remove_duplicate=False)}
    layers = layer_map(kept)
    for config in similar_configurations(cast(Any, model).config, sizes, list(kept.values())):
        shapes = parameter_shapes(type(model), config)
        if shapes is None or not _has_depths(shapes, before, kept):
            continue
        if all(before.get(_source(name, layers, before)) == shape for name, shape in shapes.items()):
            return _filled(build_like(model, config), model, layers)
    return None


def _has_depths(shapes: Mapping[str, object], before: Mapping[str, object], kept: Kept) -> bool:
    """Whether every stack has its new number of layers and all else is as before."""
    for stack, indices in kept.items():
        prefix = f"{stack.path}."
        depths = {int(name[len(prefix) :].split(".")[0]) for name in shapes if name.startswith(prefix)}
        if depths != set(range(len(indices))):
            return False
    return _outside(before, kept) == _outside(shapes, kept)


def _outside(names: Mapping[str, object], kept: Kept) -> set[str]:
    return {name for name in names if not any(name.startswith(f"{stack.path}.") for stack in kept)}


def _source(name: str, layers: Mapping[str, str], before: Mapping[str, object]) -> str:
    """Where a parameter comes from: its layer before, else what stood in its place."""
    moved = path_before(name, layers)
    return moved if moved in before else name


def _filled(fresh: nn.Module, model: nn.Module, layers: Mapping[str, str]) -> nn.Module:
    tensors = named_tensors(model)
    with torch.no_grad():
        for name, tensor in named_tensors(fresh).items():
            source = tensors.get(_source(name, layers, tensors))
            if source is not None and source.shape == tensor.shape:
                tensor.copy_(source)
    return fresh
