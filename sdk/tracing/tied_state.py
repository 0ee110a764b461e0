"""Tied parameters once in a state_dict: safetensors, and with it transformers.Trainer, refuses shared memory."""

from typing import Any

from torch import nn


def keep_tied_once(model: nn.Module) -> None:
    """From now on `model.state_dict()` has each tied parameter under its first name only, and loading takes that."""
    model.register_state_dict_post_hook(_drop_other_names)  # type: ignore[no-untyped-call]
    model.register_load_state_dict_pre_hook(_add_other_names)  # type: ignore[no-untyped-call]


def other_names(model: nn.Module) -> dict[str, str]:
    """Each further name of a tied parameter, or of one in a shared layer, and its first name."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    named = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in named if first[id(parameter)] != name}


def _drop_other_names(model: nn.Module, state: dict[str, Any], prefix: str, _metadata: object) -> None:
    for name in other_names(model):
        state.pop(prefix + name, None)


def _add_other_names(model: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    for name, first in other_names(model).items():
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])
