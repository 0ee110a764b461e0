"""Language modeling: each token from those before it, over blocks of packed text."""

import math
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from edgefold.data.plain_text import TextFiles, find_texts
from edgefold.distillation import logits_of
from edgefold.errors import InputError
from edgefold.recipes.data import PlainText
from edgefold.tasks.batches import run_over
from edgefold.tasks.opening import teacher_opener
from edgefold.tasks.task import Collate, Metric, Splits, Task
from edgefold.tasks.token_blocks import TokenBlocks, check_blocks, write_tokens

EVALUATION_BLOCKS = 8
"""At a time: logits of 8 blocks of 128 tokens over 50 000 words take 0.2 GB."""


def perplexity(model: nn.Module, dataset: TokenBlocks, collate: Collate) -> float:
    """exp of the mean negative log-likelihood of a token, the first of each block left out."""
    total, count = 0.0, 0
    for _, batch, outputs in run_over(model, dataset, collate, size=EVALUATION_BLOCKS):
        targets = batch["input_ids"][:, 1:]
        logits = logits_of(outputs)[:, :-1].float()
        total += float(nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
        count += targets.numel()
    mean = total / count
    return math.exp(mean) if mean < 700 else math.inf


def _read(data: PlainText, teacher: Any) -> Splits:
    limit = getattr(teacher.config, "max_position_embeddings", None)
    if limit and data.block_length > limit:
        raise InputError(f"data.block_length is {data.block_length}, the teacher reads {limit} tokens; lower it.")
    return Splits(*map(find_texts, data.paths.values()))


def _encode(texts: TextFiles, tokenizer: Any, data: PlainText) -> TokenBlocks:
    blocks = TokenBlocks(write_tokens(texts, tokenizer), data.block_length)
    return check_blocks(blocks, texts, data.block_length)


def _collator(tokenizer: Any, data: PlainText, teacher: nn.Module) -> Collate:
    """Blocks are of one length; their own tokens are the labels, which the model shifts."""

    def collate(rows: list[Any]) -> dict[str, torch.Tensor]:
        batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
        return {**batch, "labels": batch["input_ids"].clone()}

    return collate


LANGUAGE_MODELING = Task(
    metrics=(Metric("perplexity", greater_is_better=False),),
    open_teacher=teacher_opener(AutoModelForCausalLM),
    start_teacher=lambda folder, data: teacher_opener(AutoModelForCausalLM, is_trained=False)(folder),
    read=_read,
    encode=_encode,
    collator=_collator,
    evaluate=lambda model, dataset, collate: {"perplexity": perplexity(model, dataset, collate)},
    texts=TextFiles.lines,
    is_cacheable=False,
)
