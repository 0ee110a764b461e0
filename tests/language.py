"""SmolLM2-135M and tokens of plain English for benchmarks, and the perplexity of a causal language model on them."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgefold.distillation import logits_of
from edgefold.packaged.models import fetch_smollm2
from edgefold.packaged.text import load_addresses

LENGTH = 256
ROWS = 4


def load_smollm2(tied: bool = True) -> Any:
    """The model; with `tied` false, head and embeddings are two matrices, equal at first."""
    model: Any = AutoModelForCausalLM.from_pretrained(fetch_smollm2(), local_files_only=True, use_cache=False)
    if not tied:
        model.config.tie_word_embeddings = False
        model.lm_head.weight = nn.Parameter(model.model.embed_tokens.weight.detach().clone())
    return model.eval()


def token_batches(tokens: int, held_out: bool = False) -> list[dict[str, Tensor]]:
    """The first tokens of the addresses one after the other, as batches of ROWS x LENGTH."""
    tokenizer: Any = AutoTokenizer.from_pretrained(fetch_smollm2(), local_files_only=True)
    text = load_addresses()
    ids: list[int] = []
    for address in text.held_out if held_out else text.calibration:
        ids += [*tokenizer(address).input_ids, tokenizer.eos_token_id]
        if len(ids) >= tokens:
            break
    rows = torch.tensor(ids[: len(ids) // LENGTH * LENGTH]).view(-1, LENGTH)[: tokens // LENGTH]
    return [{"input_ids": part} for part in rows.split(ROWS)]


def perplexity(model: nn.Module, batches: Sequence[dict[str, Tensor]]) -> float:
    """exp of the mean cross-entropy of each token given those before it in its row."""
    total, count = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            logits, labels = logits_of(model(**batch))[:, :-1], batch["input_ids"][:, 1:]
            total += float(nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum"))
            count += labels.numel()
    return math.exp(total / count)
