"""Where a weight lives in a module, under each of its names; there it can be taken out, stood in for, and put back."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Place:
    """One attribute of one submodule."""

    module: str
    attribute: str
    siblings: tuple[str, ...]
    """All parameters of that submodule, in their order."""


@dataclass(frozen=True)
class WeightSlot:
    """A parameter or buffer: one place, or several where it is tied."""

    name: str
    places: tuple[Place, ...]
    is_parameter: bool
    is_persistent: bool
    """Whether it belongs to the state_dict."""

    def empty(self, model: nn.Module) -> None:
        """Take the tensor out: no longer a parameter, no longer in the state_dict."""
        for place in self.places:
            owner = model.get_submodule(place.module)
            if hasattr(owner, place.attribute):
                delattr(owner, place.attribute)
            _list_weights(owner)

    def hold_places(self, model: nn.Module) -> None:
        """Put something where the tensor was: a traced graph can only be copied with all that its nodes name."""
        self.install(model, torch.empty(0))

    def install(self, model: nn.Module, tensor: Tensor) -> None:
        """Let a tensor of any origin, as one with a history of computation, stand in for the weight."""
        for place in self.places:
            setattr(model.get_submodule(place.module), place.attribute, tensor)

    def restore(self, model: nn.Module, tensor: Tensor) -> None:
        """Put a tensor back as what was there: one parameter or buffer under all its names."""
        self.empty(model)
        parameter = nn.Parameter(tensor) if self.is_parameter else None
        for place in self.places:
            owner = model.get_submodule(place.module)
            if parameter is None:
                owner.register_buffer(place.attribute, tensor, self.is_persistent)
                continue
            owner.register_parameter(place.attribute, parameter)
            for sibling in [name for name in place.siblings if name in owner._parameters]:
                owner._parameters[sibling] = owner._parameters.pop(sibling)
            _list_weights(owner)


def _list_weights(owner: nn.Module) -> None:
    """A recurrent layer also holds its weights in a list, which only assignments keep up to date."""
    if isinstance(owner, nn.RNNBase):
        owner._flat_weights = [getattr(owner, name, None) for name in owner._flat_weights_names]


def find_slots(model: nn.Module, names: Iterable[str]) -> tuple[WeightSlot, ...]:
    """The slots of some parameters and buffers; a layer that several parents share counts once."""
    return tuple(_find_slot(model, name) for name in names)


def _find_slot(model: nn.Module, name: str) -> WeightSlot:
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    tensor = getattr(owner, attribute)
    places = tuple(
        Place(module_name, key, tuple(module._parameters))
        for module_name, module in model.named_modules()
        for key, value in [*module._parameters.items(), *module._buffers.items()]
        if value is tensor
    )
    return WeightSlot(name, places, attribute in owner._parameters, attribute not in owner._non_persistent_buffers_set)
