"""Cutting lists of layers: a copy of any module with shorter lists, and what has to follow for it to run."""

from collections.abc import Mapping
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgefold.copies import copied
from edgefold.errors import InputError
from edgefold.structure.stacks import Stack, layers_of, set_layers

Kept = Mapping[Stack, tuple[int, ...]]
"""For each stack, the indices of the layers that stay."""


def cut_layers(model: nn.Module, kept: Kept) -> nn.Module:
    """A copy with shorter lists; an attribute that counted the layers (layer_idx) counts them anew."""
    cut = copied(model)
    for stack, indices in kept.items():
        layers = layers_of(cut.get_submodule(stack.path))
        for path, attribute in _counters(layers):
            for new, old in enumerate(indices):
                setattr(layers[old].get_submodule(path), attribute, new)
        set_layers(cut.get_submodule(stack.path), [layers[index] for index in indices])
    return cut


def _counters(layers: list[nn.Module]) -> list[tuple[str, str]]:
    """Submodule and attribute that hold i in layer i, for every i; one layer tells nothing."""
    found = []
    for path, module in layers[-1].named_modules():
        for attribute, value in vars(module).items():
            if len(layers) > 1 and _is_number(value) and not attribute.startswith("_"):
                values = [getattr(_submodule(layer, path), attribute, None) for layer in layers]
                if values == list(range(len(layers))) and all(_is_number(item) for item in values):
                    found.append((path, attribute))
    return found


def make_runnable(cut: nn.Module, kept: Kept, inputs: Mapping[str, Tensor]) -> nn.Module:
    """The cut model as it is if it runs, else with as few as will do of its parents' attributes at the new depth.

    Raises:
        InputError: it runs with none of them.
    """
    failure = _failure(cut, inputs)
    if failure is None:
        return cut
    places = _depth_attributes(cut, kept)
    for chosen in (c for count in range(1, len(places) + 1) for c in combinations(places, count)):
        trial = copied(cut)
        for path, attribute, depth in chosen:
            setattr(trial.get_submodule(path), attribute, depth)
        if _failure(trial, inputs) is None:
            return trial
    depths = ", ".join(f"{stack.path} {stack.depth} -> {len(indices)}" for stack, indices in kept.items())
    raise InputError(
        f"{type(cut).__name__} cannot run with fewer layers ({depths}): {failure} Let forward iterate over its list of "
        "layers, or leave DropLayers out of the plan."
    )


def _depth_attributes(model: nn.Module, kept: Kept) -> list[tuple[str, str, int]]:
    """Integers equal to an old depth on the modules around the stacks, with the new depth: at most eight."""
    found = []
    for stack, indices in kept.items():
        parents = [path for path, _ in model.named_modules() if not path or stack.path.startswith(f"{path}.")]
        for path in parents:
            for attribute, value in vars(model.get_submodule(path)).items():
                if _is_number(value) and value == stack.depth and not attribute.startswith("_"):
                    found.append((path, attribute, len(indices)))
    return found[:8]


def _failure(model: nn.Module, inputs: Mapping[str, Tensor]) -> str | None:
    try:
        _outputs(model, inputs)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}."
    return None


def same_function(a: nn.Module, b: nn.Module, inputs: Mapping[str, Tensor]) -> bool:
    """Whether both give the same outputs, to rounding; true where the second cannot run."""
    if _failure(b, inputs) is not None:
        return True
    return all(
        x.shape == y.shape and torch.allclose(x, y, rtol=1e-4, atol=1e-6, equal_nan=True)
        for x, y in zip(_outputs(a, inputs), _outputs(b, inputs), strict=True)
    )


def _outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    training = model.training
    try:
        with torch.no_grad():
            outputs = model.eval()(**inputs)
    finally:
        model.train(training)
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def _submodule(module: nn.Module, path: str) -> nn.Module | None:
    return dict(module.named_modules()).get(path)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
