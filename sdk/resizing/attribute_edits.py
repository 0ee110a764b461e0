"""Attributes and tensors of a module of the original architecture, set to those of a resized one."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class AttributeEdit:
    """Set a size attribute of one submodule."""

    module: str
    attribute: str
    value: int | tuple[int, ...]


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


def _replace_tensor(model: nn.Module, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    if isinstance(value, nn.Parameter):
        setattr(owner, attribute, value)
    else:
        owner.register_buffer(attribute, value)
