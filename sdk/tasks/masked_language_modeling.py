"""Masked language modeling: hidden tokens from those around them, alone or with a question about two segments."""

import json
import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

from edgefold.data.plain_text import TextFiles, find_texts
from edgefold.distillation import logits_of
from edgefold.errors import InputError
from edgefold.pretraining import PAIR_LABELS, SentencePairCollator, masking_collator
from edgefold.recipes.data import MaskedText
from edgefold.tasks.batches import run_over
from edgefold.tasks.language_modeling import EVALUATION_BLOCKS
from edgefold.tasks.opening import open_headless, teacher_opener
from edgefold.tasks.task import Collate, Metric, Splits, Task
from edgefold.tasks.token_blocks import TokenBlocks, check_blocks, write_tokens

LABELS = ("labels", *PAIR_LABELS.values())


def evaluate_masked(model: nn.Module, dataset: TokenBlocks, collate: Collate) -> dict[str, float]:
    """Perplexity and accuracy of the masked tokens, and accuracy on the pairs if there are any.

    The same tokens are masked in each call.
    """
    total, right, count, pairs, right_pairs = 0.0, 0, 0, 0, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _, batch, outputs in run_over(model, dataset, collate, LABELS, EVALUATION_BLOCKS):
            is_masked = batch["labels"] >= 0
            logits, labels = logits_of(outputs)[is_masked].float(), batch["labels"][is_masked]
            total += float(nn.functional.cross_entropy(logits, labels, reduction="sum"))
            right += int((logits.argmax(-1) == labels).sum())
            count += len(labels)
            for name in PAIR_LABELS.values():
                if name in batch:
                    pairs += len(batch[name])
                    right_pairs += int((_pair_logits(outputs).argmax(-1) == batch[name]).sum())
    mean = total / max(count, 1)
    metrics = {"perplexity": math.exp(mean) if mean < 700 else math.inf, "accuracy": right / max(count, 1)}
    return {**metrics, "pair_accuracy": right_pairs / pairs} if pairs else metrics


def _pair_logits(outputs: Any) -> Tensor:
    """(rows, 2): of BERT's next sentence or of ALBERT's order."""
    names = ("seq_relationship_logits", "sop_logits")
    found: Tensor = next(getattr(outputs, name) for name in names if hasattr(outputs, name))
    return found


def _open_teacher(folder: Path) -> nn.Module:
    """With its head for pairs where the checkpoint has one."""
    has_pairs = _architecture(folder).endswith("ForPreTraining")
    return teacher_opener(AutoModelForPreTraining if has_pairs else AutoModelForMaskedLM)(folder)


def _architecture(folder: Path) -> str:
    """The class of model that a checkpoint says it is; "" if none."""
    try:
        architectures = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read as JSON: {error}.") from None
    return str(architectures[0])


def _start_teacher(folder: Path, data: MaskedText) -> nn.Module:
    """A checkpoint with the head as it is; another with a new one, whose decoder begins as the word embeddings.

    It begins as a copy and is not tied to them: a tied one draws the nonlinearity of the head into the residual stream,
    which then could be selected but not projected.
    """
    model_class = AutoModelForMaskedLM if data.pairs == "none" else AutoModelForPreTraining
    if _architecture(folder).endswith(("ForMaskedLM", "ForPreTraining")):
        return teacher_opener(model_class, is_trained=False)(folder)
    model: Any = open_headless(model_class, folder, tie_word_embeddings=False)
    decoder, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    with torch.no_grad():
        decoder.weight.copy_(embeddings.weight)
    return cast(nn.Module, model)


def _read(data: MaskedText, teacher: Any) -> Splits:
    limit = getattr(teacher.config, "max_position_embeddings", None)
    if limit and data.block_length > limit:
        raise InputError(f"data.block_length is {data.block_length}, the teacher reads {limit} tokens; lower it.")
    wanted = {"nsp": "BertForPreTraining", "sop": "AlbertForPreTraining"}.get(data.pairs)
    if wanted and type(teacher).__name__ != wanted:
        raise InputError(
            f"data.pairs is {data.pairs!r}, for which the teacher must be {wanted}; this one is "
            f"{type(teacher).__name__}. Leave data.pairs out, or give another teacher."
        )
    return Splits(*map(find_texts, data.paths.values()))


def _encode(texts: TextFiles, tokenizer: Any, data: MaskedText) -> TokenBlocks:
    """Blocks framed by [CLS] and [SEP]; for pairs bare ones, which the collator frames."""
    tokens = write_tokens(texts, tokenizer)
    if data.pairs == "none":
        blocks = TokenBlocks(tokens, data.block_length, (tokenizer.cls_token_id,), (tokenizer.sep_token_id,))
    else:
        blocks = TokenBlocks(tokens, data.block_length - 3)
    return check_blocks(blocks, texts, data.block_length)


def _collator(tokenizer: Any, data: MaskedText, teacher: nn.Module) -> Collate:
    if data.pairs != "none":
        return SentencePairCollator(tokenizer, data.pairs, data.mask_share)
    return masking_collator(tokenizer, data.mask_share)


MASKED_LANGUAGE_MODELING = Task(
    metrics=(Metric("perplexity", greater_is_better=False), Metric("accuracy")),
    open_teacher=_open_teacher,
    start_teacher=_start_teacher,
    read=_read,
    encode=_encode,
    collator=_collator,
    evaluate=evaluate_masked,
    texts=TextFiles.lines,
    label_names=LABELS,
    is_cacheable=False,
)
