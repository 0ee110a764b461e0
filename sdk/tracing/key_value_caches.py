"""Models run without the key-value cache of generation: the same function, and only tensors come out of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def caches_off(model: nn.Module) -> Iterator[None]:
    """Within the block, no configuration in the model asks for a cache; afterwards all are as they were.

    A cache is an object, not a tensor, so torch.export cannot return it. What a model computes in one pass over a whole
    sequence does not depend on it.
    """
    asked = {id(config): config for module in model.modules() for config in _configurations(module)}
    for config in asked.values():
        config.use_cache = False
    try:
        yield
    finally:
        for config in asked.values():
            config.use_cache = True


def _configurations(module: nn.Module) -> list[Any]:
    """The configuration of a submodule and those nested in it, where they ask for a cache."""
    config = getattr(module, "config", None)
    nested = list(vars(config).values()) if hasattr(config, "__dict__") else []
    return [each for each in (config, *nested) if getattr(each, "use_cache", None) is True]
