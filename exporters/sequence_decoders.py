"""An encoder-decoder as three graphs: the encoder, the decoder's first step, and every step after it.

Named as optimum names them: encoder_model, decoder_model, decoder_with_past_model; the decoder's own keys and values
are past_key_values.N.decoder.key, those of its attention to the encoder, which never change, .N.encoder.key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from edgefold.errors import InputError
from edgefold.exporters.cache_layouts import CacheLayer, as_cache, cache_argument, find_sequence_layout
from edgefold.exporters.causal_decoders import KINDS, PAST, ROWS, STEP, TOKENS
from edgefold.exporters.graph_parts import GraphPart

SOURCES = ("decoder", "encoder")
TARGET = {"input_ids": TOKENS, "logits": TOKENS}
ENCODED = 7
"""Tokens of the example's source."""


class Encoder(nn.Module):
    """The source, encoded."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.encoder = model.get_encoder()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"last_hidden_state": self.encoder(**inputs).last_hidden_state}


class Decoder(nn.Module):
    """One pass over target tokens; without a past it computes the keys and values of the encoded source too."""

    def __init__(self, model: nn.Module, layers: int, hidden_size: int, has_past: bool) -> None:
        super().__init__()
        self.model = model
        self.layers = layers
        self.hidden_size = hidden_size
        self.has_past = has_past
        self.argument = cache_argument(model)

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """input_ids: (batch, sequence), encoder_attention_mask: (batch, encoder_sequence)."""
        own, across = (self._past(inputs, source) for source in SOURCES)
        cache = EncoderDecoderCache(as_cache(own), as_cache(across))
        if self.has_past:  # what is in the cache is not computed again, but forward asks for it
            rows, _, positions, _ = across[0][0].shape
            hidden = across[0][0].new_zeros(rows, positions, self.hidden_size)
        else:
            hidden = inputs["encoder_hidden_states"]
        mask = inputs.get("encoder_attention_mask")
        outputs: Any = self.model(
            decoder_input_ids=inputs["input_ids"],
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            **({"attention_mask": mask} if mask is not None else {}),
            **{self.argument: cache},
            use_cache=True,
        )
        caches = {"decoder": cache.self_attention_cache, "encoder": cache.cross_attention_cache}
        presents = {
            f"present.{index}.{source}.{kind}": getattr(caches[source].layers[index], f"{kind}s")
            for index in range(self.layers)
            for source in (SOURCES[:1] if self.has_past else SOURCES)
            for kind in KINDS
        }
        return {"logits": outputs.logits, **presents}

    def _past(self, inputs: Mapping[str, Tensor], source: str) -> list[tuple[Tensor, Tensor]]:
        if not self.has_past:
            return []
        return [
            (inputs[f"past_key_values.{layer}.{source}.key"], inputs[f"past_key_values.{layer}.{source}.value"])
            for layer in range(self.layers)
        ]


def sequence_parts(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[GraphPart, GraphPart, GraphPart]:
    """The graphs of an encoder-decoder: encoder, first step of the decoder, every other step.

    Args:
        inputs: example keyword tensors of the encoder: input_ids and attention_mask, or input_features.

    Raises:
        InputError: inputs of another kind, or a model that keeps another state than keys and values.
    """
    main = next(iter(inputs))
    if main not in ("input_ids", "input_features"):
        raise InputError(f"The encoder's first input is {main}; it must be input_ids or input_features.")
    layouts = dict(zip(SOURCES, find_sequence_layout(model, inputs), strict=True))
    encoder = Encoder(model).eval()
    with torch.no_grad():
        hidden = encoder(dict(inputs))["last_hidden_state"]
    sizes = _Sizes(layouts, ENCODED if main == "input_ids" else hidden.shape[1], hidden.shape[2], main == "input_ids")
    return _encoder_part(encoder, inputs, sizes), _first_part(model, sizes), _next_part(model, sizes)


@dataclass(frozen=True)
class _Sizes:
    """What the three graphs have in common."""

    layouts: Mapping[str, tuple[CacheLayer, ...]]
    positions: int
    """Encoded positions of the example."""
    hidden_size: int
    reads_tokens: bool
    """Whether the source is text of any length; log-mel features have one length."""

    @property
    def layers(self) -> int:
        return len(self.layouts["decoder"])

    @property
    def encoded(self) -> dict[int, str]:
        """Dynamic axes of the encoder's inputs and outputs."""
        return {0: "batch", 1: "encoder_sequence"} if self.reads_tokens else {0: "batch"}

    @property
    def masks(self) -> dict[str, Tensor]:
        mask = torch.ones(ROWS, self.positions, dtype=torch.long)
        return {"encoder_attention_mask": mask} if self.reads_tokens else {}

    @property
    def past(self) -> dict[str, Tensor]:
        """Layer by layer, the decoder's before the encoder's."""
        positions = {"decoder": PAST, "encoder": self.positions}
        return {
            f"past_key_values.{index}.{source}.{kind}": tensor
            for index in range(self.layers)
            for source in SOURCES
            for kind, tensor in zip(KINDS, self.layouts[source][index].example(ROWS, positions[source]), strict=True)
        }

    def axes(self, names: Iterable[str], own: str) -> dict[str, dict[int, str]]:
        """Dynamic axes of keys and values; the decoder's own have `own` positions."""
        across = {0: "batch", 2: "encoder_sequence"} if self.reads_tokens else {0: "batch"}
        return {name: {0: "batch", 2: own} if _is_own(name) else across for name in names}


def _encoder_part(encoder: Encoder, inputs: Mapping[str, Tensor], sizes: _Sizes) -> GraphPart:
    mask = torch.ones(ROWS, sizes.positions, dtype=torch.long)
    texts = {"input_ids": mask.cumsum(1) % 7, "attention_mask": mask}
    features = {name: torch.cat([value[:1], value[-1:]]).clone() for name, value in inputs.items()}
    source = texts if sizes.reads_tokens else features
    axes = dict.fromkeys((*source, "last_hidden_state"), sizes.encoded)
    return GraphPart("encoder_model", encoder, source, ("last_hidden_state",), axes)


def _first_part(model: nn.Module, sizes: _Sizes) -> GraphPart:
    presents = [name.replace("past_key_values", "present") for name in sizes.past]
    hidden = torch.randn(ROWS, sizes.positions, sizes.hidden_size, generator=torch.Generator().manual_seed(0))
    encoded = {"encoder_hidden_states": hidden, **sizes.masks}
    return GraphPart(
        name="decoder_model",
        module=Decoder(model, sizes.layers, sizes.hidden_size, has_past=False),
        inputs={"input_ids": _example_ids(), **encoded},
        outputs=("logits", *presents),
        axes={**TARGET, **dict.fromkeys(encoded, sizes.encoded), **sizes.axes(presents, "sequence")},
    )


def _next_part(model: nn.Module, sizes: _Sizes) -> GraphPart:
    presents = [name.replace("past_key_values", "present") for name in sizes.past if _is_own(name)]
    return GraphPart(
        name="decoder_with_past_model",
        module=Decoder(model, sizes.layers, sizes.hidden_size, has_past=True),
        inputs={"input_ids": _example_ids(), **sizes.masks, **sizes.past},
        outputs=("logits", *presents),
        axes={
            **TARGET,
            **dict.fromkeys(sizes.masks, sizes.encoded),
            **sizes.axes(sizes.past, "past"),
            **sizes.axes(presents, "past + sequence"),
        },
    )


def _example_ids() -> Tensor:
    return torch.arange(ROWS * STEP).reshape(ROWS, STEP) % 7


def _is_own(name: str) -> bool:
    """Whether keys or values are of the decoder's attention to itself."""
    return ".decoder." in name
