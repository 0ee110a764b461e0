"""What a language model keeps from step to step: keys and values of each attention, found by running it once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from transformers import DynamicCache, EncoderDecoderCache

from edgefold.errors import InputError

ARGUMENTS = ("cache", "past_key_values")
"""What forward calls its cache, by the version of transformers."""
WITHOUT = "Export it without a cache, with export_onnx."


@dataclass(frozen=True)
class CacheLayer:
    """Sizes of one attention's keys and values, each (batch, heads, positions, size)."""

    heads: int
    key_size: int
    value_size: int

    def example(self, batch: int, positions: int) -> tuple[Tensor, Tensor]:
        """Keys and values to trace with."""
        generator = torch.Generator().manual_seed(0)
        key, value = (
            torch.randn(batch, self.heads, positions, size, generator=generator)
            for size in (self.key_size, self.value_size)
        )
        return key, value


def cache_argument(model: nn.Module) -> str:
    """The name of the cache among forward's arguments.

    Raises:
        InputError: there is none: no language model, or a student that is a traced graph.
    """
    if isinstance(model, GraphModule):
        raise InputError(
            "This student is a traced graph: its sizes were written into forward as numbers, and what was traced has "
            f"no cache of keys and values. {WITHOUT}"
        )
    names = signature(model.forward).parameters
    found = next((name for name in ARGUMENTS if name in names), None)
    if found is None or not hasattr(model, "config"):
        raise InputError(
            f"{type(model).__name__}.forward takes {', '.join(names)}, and no cache of keys and values. {WITHOUT}"
        )
    return found


def find_causal_layout(model: nn.Module) -> tuple[CacheLayer, ...]:
    """Of a causal language model, layer by layer.

    Raises:
        InputError: it keeps another state than keys and values.
    """
    cache = DynamicCache()
    ids = torch.zeros(1, 2, dtype=torch.long)
    _run(model, cache, {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    return _layers(model, cache)


def find_sequence_layout(
    model: nn.Module, inputs: Mapping[str, Tensor]
) -> tuple[tuple[CacheLayer, ...], tuple[CacheLayer, ...]]:
    """Of an encoder-decoder: the layers of the decoder's own attention, and of its attention to the encoder.

    Raises:
        InputError: it keeps another state than keys and values.
    """
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    batch = next(iter(inputs.values())).shape[0]
    _run(model, cache, {**inputs, "decoder_input_ids": torch.zeros(batch, 2, dtype=torch.long)})
    return _layers(model, cache.self_attention_cache), _layers(model, cache.cross_attention_cache)


def as_cache(pairs: Sequence[tuple[Tensor, Tensor]]) -> DynamicCache:
    """A cache that holds these keys and values, none of them cut to a window."""
    cache = DynamicCache()
    for index, (key, value) in enumerate(pairs):
        cache.update(key, value, index)
    return cache


def _run(model: nn.Module, cache: Any, arguments: Mapping[str, Tensor]) -> None:
    try:
        with torch.no_grad():
            model(**arguments, **{cache_argument(model): cache}, use_cache=True)
    except InputError:
        raise
    except Exception as error:  # whatever forward raises where a cache of keys and values is not what it wants
        raise InputError(
            f"{type(model).__name__} does not run with a cache of keys and values: {str(error).strip().splitlines()[0]}"
            f"; {WITHOUT[0].lower()}{WITHOUT[1:]}"
        ) from error


def _layers(model: nn.Module, cache: DynamicCache) -> tuple[CacheLayer, ...]:
    found: list[CacheLayer] = []
    for index, layer in enumerate(cache.layers):
        key, value = getattr(layer, "keys", None), getattr(layer, "values", None)
        if key is None or value is None or key.dim() != 4 or value.dim() != 4:
            raise InputError(
                f"Layer {index} of {type(model).__name__} keeps another state than keys and values of (batch, heads, "
                f"positions, size). {WITHOUT}"
            )
        found.append(CacheLayer(key.shape[1], key.shape[3], value.shape[3]))
    if not found:
        raise InputError(f"{type(model).__name__} puts nothing into its cache. {WITHOUT}")
    return tuple(found)
