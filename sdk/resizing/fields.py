"""Configurations of the same architecture at other sizes, found by trying its fields, never by their names."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any, cast

import torch
from torch import Tensor, nn

MAX_TRIALS = 256
Shapes = dict[str, tuple[int, ...]]


def has_configuration(model: nn.Module) -> bool:
    """Whether the class can be built anew from `model.config`, as those of Hugging Face can."""
    return callable(getattr(getattr(model, "config", None), "to_dict", None))


def is_configured(model: nn.Module) -> bool:
    """Whether `model.config` alone gives a model's parameters their names and shapes."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.named_parameters(remove_duplicate=False)}
    return has_configuration(model) and parameter_shapes(type(model), cast(Any, model).config) == shapes


def similar_configurations(
    config: Any, sizes: Mapping[int, Sequence[int]], cuts: Sequence[Sequence[int]]
) -> Iterator[Any]:
    """Copies of `config` with some fields changed: every list that can be cut first, then as few numbers as will do.

    Args:
        sizes: old value -> new values that an integer field of the old value may take.
        cuts: which indices of a list may stay, where its length is one of the old values.
    """
    choices = {
        name: options
        for name, value in config.to_dict().items()
        if hasattr(config, name) and (options := _options(getattr(config, name), sizes, cuts))
    }
    combinations = product(*([(name, value) for value in options] for name, options in choices.items()))
    for fields in islice(sorted(combinations, key=lambda fields: _changes(config, dict(fields))), MAX_TRIALS):
        changed = copy.deepcopy(config)
        try:
            for name, value in fields:
                setattr(changed, name, value)
            check_configuration(changed)
        except Exception:  # a combination that the configuration itself refuses
            continue
        yield changed


def check_configuration(config: Any) -> None:
    """Raise what a configuration has against its own fields: transformers would neither save nor open such a one.

    A model may well be built from it: Llama's heads have a width of their own, yet its hidden size must be a multiple
    of their number.
    """
    validate = getattr(config, "validate", None)
    if callable(validate):
        validate()


def parameter_shapes(model_class: type[nn.Module], config: Any) -> Shapes | None:
    """What the class would have for parameters, built on the meta device; None where it refuses the configuration."""
    try:
        with torch.device("meta"):
            fresh = cast(Any, model_class)(copy.deepcopy(config))
    except Exception:  # a combination that the architecture itself refuses is simply not a solution
        return None
    return {name: tuple(tensor.shape) for name, tensor in fresh.named_parameters(remove_duplicate=False)}


def build_like(model: nn.Module, config: Any) -> nn.Module:
    """The model's class at another configuration, on its device, in its dtype and mode; its weights are not filled."""
    reference = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        fresh: nn.Module = cast(Any, type(model))(copy.deepcopy(config))
    if hasattr(model, "generation_config"):
        cast(Any, fresh).generation_config = copy.deepcopy(model.generation_config)
    return fresh.to(reference.device, reference.dtype).train(model.training)


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer under each of its names."""
    return dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))


def _options(value: Any, sizes: Mapping[int, Sequence[int]], cuts: Sequence[Sequence[int]]) -> list[Any]:
    """What a field may become, its own value last; nothing where it cannot change."""
    if isinstance(value, int) and not isinstance(value, bool) and value in sizes:
        return [*dict.fromkeys(sizes[value]), value]
    if isinstance(value, list | tuple) and len(value) in sizes:
        return [type(value)(value[index] for index in cut) for cut in cuts if max(cut) < len(value)] + [value]
    return []


def _changes(config: Any, fields: Mapping[str, Any]) -> tuple[int, int]:
    """Lists left uncut, and numbers changed."""
    own = {name: getattr(config, name) for name in fields}
    lists = [value == own[name] for name, value in fields.items() if isinstance(value, list | tuple)]
    numbers = [value != own[name] for name, value in fields.items() if not isinstance(value, list | tuple)]
    return sum(lists), sum(numbers)
