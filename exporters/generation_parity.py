"""Parity of generation: the graphs with a cache, run pass by pass in ONNX Runtime, compute what torch does at once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefold.artifacts import Generation
from edgefold.errors import GateError
from edgefold.exporters.causal_decoders import takes_positions
from edgefold.exporters.parity import open_graph

Batch = Mapping[str, Tensor]
Array = NDArray[Any]
STEPS = 3
"""Passes over a single token, between the prompt and a last pass over the rest."""
SHORTEST = STEPS + 4
TARGETS = 6
"""Tokens that torch chooses for the decoder of an encoder-decoder to be compared on."""
PAST = "past_key_values."
CACHE_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class Agreement:
    """How the logits of all tokens that are no padding differ from torch's."""

    error: float
    """Largest difference, in units of the largest logit where that is above 1."""
    same_choice: float
    """Share of tokens after which the likeliest token is the same."""
    divergence: float
    """Mean KL(torch ‖ graph) of the next token, in nats."""


def compare_causal(model: nn.Module, path: Path, batch: Batch) -> Agreement:
    """A causal model on rows as given, padded on the left, and on one row alone."""
    session = open_graph(path)
    return _agreement(_causal_pairs(model, session, batch))


def _causal_pairs(model: nn.Module, session: Any, batch: Batch) -> Iterator[tuple[Array, Array]]:
    for variant in causal_variants(batch):
        ids, mask = variant["input_ids"], variant["attention_mask"]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        arguments = {**variant, **({"position_ids": positions} if takes_positions(model) else {})}
        with torch.no_grad():
            expected = model(**arguments, use_cache=False).logits.numpy()
        found = _run_causal(session, ids.numpy(), mask.numpy(), positions.numpy())
        yield found[mask.numpy() == 1], expected[mask.numpy() == 1]


def compare_sequence(model: nn.Module, folder: Path, batch: Batch, settings: Generation) -> Agreement:
    """An encoder-decoder on the rows as given and on one alone, on the tokens that torch itself chooses."""
    names = ("encoder_model", "decoder_model", "decoder_with_past_model")
    encoder, *decoders = (open_graph(folder / f"{name}.onnx") for name in names)
    pairs = []
    for variant in (dict(batch), {name: value[:1] for name, value in batch.items()}):
        targets, expected = _choose(model, variant, settings)
        (hidden,) = _run(encoder, {name: value.numpy() for name, value in variant.items()}).values()
        found = _run_sequence(decoders, targets, hidden, variant.get("attention_mask"))
        pairs.append((found, expected))
    return _agreement(pairs)


def causal_variants(batch: Batch) -> list[dict[str, Tensor]]:
    """The rows as given, long enough to be cut; the same padded on the left; the first row without padding."""
    ids = batch["input_ids"]
    mask = batch.get("attention_mask", torch.ones_like(ids))
    repeats = -(-SHORTEST // ids.shape[1])
    ids, mask = ids.repeat(1, repeats), mask.repeat(1, repeats)
    order = mask.argsort(dim=1, stable=True)
    first = ids[:1, mask[0] == 1]
    return [
        {"input_ids": ids, "attention_mask": mask},
        {"input_ids": ids.gather(1, order), "attention_mask": mask.gather(1, order)},
        {"input_ids": first, "attention_mask": torch.ones_like(first)},
    ]


def _passes(length: int) -> Iterator[slice]:
    """The prompt, single tokens, and what is left."""
    prompt = max(1, min(length // 2, length - STEPS - 1))
    bounds = [0, *range(prompt, prompt + STEPS + 1), length]
    return (slice(a, b) for a, b in pairwise(bounds) if a < min(b, length))


def _run_causal(session: Any, ids: Array, mask: Array, positions: Array) -> Array:
    cache = _empty_cache(session, len(ids))
    logits = []
    for tokens in _passes(ids.shape[1]):
        feeds = {
            "input_ids": ids[:, tokens],
            "attention_mask": mask[:, : tokens.stop],
            "position_ids": positions[:, tokens],
        }
        outputs = _run(session, {**feeds, **cache})
        cache = _presents(outputs)
        logits.append(outputs["logits"])
    return np.concatenate(logits, axis=1)


def _run_sequence(decoders: list[Any], targets: Array, hidden: Array, mask: Tensor | None) -> Array:
    known = {} if mask is None else {"encoder_attention_mask": mask.numpy()}
    state: dict[str, Array] = {"encoder_hidden_states": hidden}
    logits = []
    for index, tokens in enumerate(_passes(targets.shape[1])):
        outputs = _run(decoders[min(index, 1)], {"input_ids": targets[:, tokens], **known, **state})
        state = {**state, **_presents(outputs)}
        logits.append(outputs["logits"])
    return np.concatenate(logits, axis=1)


def _choose(model: Any, batch: Batch, settings: Generation) -> tuple[Array, Array]:
    """What torch's decoder begins with and goes on with, and its logits: (rows, tokens), (rows, tokens, vocabulary)."""
    rows = next(iter(batch.values())).shape[0]
    targets = torch.tensor([settings.start_ids or (settings.pad_id,)]).repeat(rows, 1)
    with torch.no_grad():
        encoded = model.get_encoder()(**batch)
        mask = {name: value for name, value in batch.items() if name == "attention_mask"}
        for _ in range(TARGETS):
            logits = model(encoder_outputs=encoded, decoder_input_ids=targets, use_cache=False, **mask).logits
            targets = torch.cat([targets, logits[:, -1:].argmax(-1)], dim=1)
    return targets[:, :-1].numpy(), logits.numpy()


def _run(session: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [value.name for value in session.get_outputs()]
    wanted = {value.name: np.ascontiguousarray(feeds[value.name]) for value in session.get_inputs()}
    try:
        return dict(zip(names, session.run(names, wanted), strict=True))
    except Exception as error:  # onnxruntime's own classes share no base
        shapes = ", ".join(f"{name} {array.shape}" for name, array in wanted.items() if not name.startswith(PAST))
        raise GateError(f"ONNX Runtime does not run the exported graph on {shapes}: {error}") from error


def _empty_cache(session: Any, rows: int) -> dict[str, Array]:
    return {
        value.name: np.zeros((rows, value.shape[1], 0, value.shape[3]), CACHE_TYPES[value.type])
        for value in session.get_inputs()
        if value.name.startswith(PAST)
    }


def _presents(outputs: Mapping[str, Array]) -> dict[str, Array]:
    found = {name: value for name, value in outputs.items() if name.startswith("present.")}
    return {name.replace("present.", PAST, 1): value for name, value in found.items()}


def _agreement(pairs: Iterable[tuple[Array, Array]]) -> Agreement:
    """Infinite where shapes differ or anything is not a number; of the pairs no more than one is held."""
    errors, same, divergences = [], [], []
    for found, expected in pairs:
        if found.shape != expected.shape or not np.isfinite(found).all():
            return Agreement(float("inf"), 0.0, float("inf"))
        errors.append(np.abs(found - expected).max(initial=0.0) / max(1.0, np.abs(expected).max(initial=0.0)))
        same.append((found.argmax(-1) == expected.argmax(-1)).ravel())
        divergences.append(_divergence(expected, found).ravel())
    return Agreement(float(max(errors)), float(np.concatenate(same).mean()), float(np.concatenate(divergences).mean()))


def _divergence(expected: Array, found: Array) -> Array:
    """Σ p (log p - log q) for each row of logits, one at a time in float64: (..., vocabulary) -> (rows,)."""
    rows = (logits.reshape(-1, logits.shape[-1]) for logits in (expected, found))
    return np.array([_row_divergence(p, q) for p, q in zip(*rows, strict=True)])


def _row_divergence(expected: Array, found: Array) -> float:
    p, q = (_log_softmax(logits.astype(np.float64)) for logits in (expected, found))
    return float((np.exp(p) * (p - q)).sum())


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))
