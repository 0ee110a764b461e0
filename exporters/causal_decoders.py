"""A causal language model as one graph with a cache: for the prompt (an empty past) and for every step after it.

Inputs and outputs are called as optimum and transformers.js call them: past_key_values.N.key and .value come in,
present.N.key and .value go out, and attention_mask covers the past as well.
"""

from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from edgefold.exporters.cache_layouts import CacheLayer, as_cache, cache_argument, find_causal_layout
from edgefold.exporters.graph_parts import GraphPart

ROWS, PAST, STEP = 2, 5, 3
"""Sizes of the example, none equal to another."""
KINDS = ("key", "value")
TOKENS = {0: "batch", 1: "sequence"}


class CausalDecoder(nn.Module):
    """One pass over new tokens, with the keys and values of those before."""

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers
        self.argument = cache_argument(model)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """input_ids: (batch, sequence), attention_mask: (batch, past + sequence), past: (batch, heads, past, size)."""
        pairs = [
            (inputs[f"past_key_values.{layer}.key"], inputs[f"past_key_values.{layer}.value"])
            for layer in range(self.layers)
        ]
        cache = as_cache(pairs)
        plain = {name: value for name, value in inputs.items() if not name.startswith("past_key_values.")}
        outputs: Any = self.model(**plain, **{self.argument: cache}, use_cache=True)
        layers: Sequence[Any] = cache.layers
        presents = {
            f"present.{index}.{kind}": tensor
            for index, layer in enumerate(layers)
            for kind, tensor in zip(KINDS, (layer.keys, layer.values), strict=True)
        }
        return {"logits": outputs.logits, **presents}


def causal_part(model: nn.Module) -> GraphPart:
    """The graph of a causal language model.

    Raises:
        InputError: it has no cache of keys and values.
    """
    layout = find_causal_layout(model)
    past = _example_past(layout)
    ids = torch.arange(ROWS * STEP).reshape(ROWS, STEP) % 7
    inputs = {
        "input_ids": ids,
        "attention_mask": torch.ones(ROWS, PAST + STEP, dtype=torch.long),
        **({"position_ids": torch.arange(PAST, PAST + STEP).repeat(ROWS, 1)} if takes_positions(model) else {}),
        **past,
    }
    presents = [name.replace("past_key_values", "present") for name in past]
    return GraphPart(
        name="model",
        module=CausalDecoder(model, len(layout)),
        inputs=inputs,
        outputs=("logits", *presents),
        axes={
            **dict.fromkeys(("input_ids", "position_ids", "logits"), TOKENS),
            "attention_mask": {0: "batch", 1: "past + sequence"},
            **{name: {0: "batch", 2: "past"} for name in past},
            **{name: {0: "batch", 2: "past + sequence"} for name in presents},
        },
    )


def takes_positions(model: nn.Module) -> bool:
    """Whether forward has to be told at which positions the tokens stand."""
    return "position_ids" in signature(model.forward).parameters


def _example_past(layout: tuple[CacheLayer, ...]) -> dict[str, Tensor]:
    return {
        f"past_key_values.{index}.{kind}": tensor
        for index, layer in enumerate(layout)
        for kind, tensor in zip(KINDS, layer.example(ROWS, PAST), strict=True)
    }
