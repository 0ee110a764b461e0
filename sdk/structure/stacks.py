"""Stacks: the lists of like layers that a network runs through one after the other, found without names."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn

from edgefold.errors import InputError


@dataclass(frozen=True)
class Stack:
    """A ModuleList or Sequential whose children have one class and, where they share a name, one shape."""

    path: str
    depth: int

    def layer(self, index: int) -> str:
        """The qualified name of a layer."""
        return f"{self.path}.{index}" if self.path else str(index)


def find_stacks(model: nn.Module) -> list[Stack]:
    """The outermost stacks of a model; lists inside a layer (experts, sublayers) are not among them."""
    found: list[Stack] = []
    for path, module in model.named_modules():
        if is_stack(module) and not any(path.startswith(f"{outer.path}.") or not outer.path for outer in found):
            found.append(Stack(path, len(layers_of(module))))
    return found


def match_stacks(model: nn.Module, pattern: str | None, step: str) -> list[Stack]:
    """The stacks that a name, a part of one, or a glob stands for; the longest when it is left out.

    Raises:
        InputError: there is no stack, none matches, or several are the longest.
    """
    stacks = find_stacks(model)
    names = ", ".join(f"{stack.path or 'the model itself'} ({stack.depth} layers)" for stack in stacks)
    if not stacks:
        raise InputError(
            f"{step} needs a list of layers, but {type(model).__name__} has no ModuleList or Sequential whose children "
            "have one class and the same parameter shapes; leave the step out."
        )
    if pattern is None:
        longest = [stack for stack in stacks if stack.depth == max(other.depth for other in stacks)]
        if len(longest) > 1:
            raise InputError(
                f"{step} does not say which stack: {type(model).__name__} has {names}; name one, or all by a glob such "
                "as '*'."
            )
        return longest
    matched = [stack for stack in stacks if fnmatchcase(stack.path, pattern) or pattern in stack.path.split(".")]
    if not matched:
        nearest = difflib.get_close_matches(pattern, [stack.path for stack in stacks], 1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise InputError(f"{step} matches no stack of layers by {pattern!r}; {hint}There are {names}.")
    return matched


def layers_of(stack: nn.Module) -> list[nn.Module]:
    return list(stack.children())


def set_layers(stack: nn.Module, layers: list[nn.Module]) -> None:
    """Give a stack these layers instead of its own, in place."""
    stack._modules.clear()
    for index, layer in enumerate(layers):
        stack.add_module(str(index), layer)


def is_stack(module: nn.Module) -> bool:
    """Whether a module is a list of like layers with parameters."""
    if not isinstance(module, nn.ModuleList | nn.Sequential) or not len(module):
        return False
    layers = list(module._modules.values())
    numbered = list(module._modules) == [str(index) for index in range(len(layers))]
    return numbered and len({type(layer) for layer in layers}) == 1 and _shapes_agree(layers)


def common_parameters(layers: list[nn.Module]) -> list[str]:
    """The names that all layers give a parameter."""
    names = [[name for name, _ in layer.named_parameters(remove_duplicate=False)] for layer in layers]
    return [name for name in names[0] if all(name in others for others in names[1:])]


def _shapes_agree(layers: list[nn.Module]) -> bool:
    shapes = [dict(_shapes(layer)) for layer in layers]
    common = common_parameters(layers)
    return bool(common) and all(len({found[name] for found in shapes}) == 1 for name in common)


def _shapes(layer: nn.Module) -> Iterator[tuple[str, torch.Size]]:
    for name, parameter in layer.named_parameters(remove_duplicate=False):
        yield name, parameter.shape
