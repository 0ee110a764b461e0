"""Sequence to sequence: a text written for another, as in translation and summarization."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, DataCollatorForSeq2Seq

from edgefold.data.pairs import TextPair, read_pairs
from edgefold.distillation import logits_of
from edgefold.errors import InputError
from edgefold.recipes.data import PairData
from edgefold.scores.translations import chrf
from edgefold.students import Student
from edgefold.tasks.batches import EncodedRows, run_over
from edgefold.tasks.opening import teacher_opener
from edgefold.tasks.task import Collate, Metric, Row, Splits, Task

EVALUATION_BATCH = 16


class PairRows(EncodedRows):
    """Encoded sources and targets, with what is needed to write a target and to read it."""

    def __init__(self, rows: list[Row], pairs: Sequence[TextPair], tokenizer: Any, longest: int) -> None:
        super().__init__(rows)
        self.pairs = pairs
        self.tokenizer = tokenizer
        self.longest = longest


def encode_pairs(pairs: Sequence[TextPair], tokenizer: Any, data: PairData) -> PairRows:
    """The source's tokens, and the target's as labels; both are cut to their lengths."""
    sources = tokenizer([pair.source for pair in pairs], truncation=True, max_length=data.max_source_length)
    targets = tokenizer(text_target=[pair.target for pair in pairs], truncation=True, max_length=data.max_target_length)
    names = [name for name in ("input_ids", "attention_mask") if name in sources]
    rows = [
        {**{name: sources[name][i] for name in names}, "labels": targets["input_ids"][i]} for i in range(len(pairs))
    ]
    return PairRows(rows, pairs, tokenizer, data.max_target_length)


def pair_collator(tokenizer: Any, teacher: nn.Module) -> Collate:
    """Pads sources and targets; decoder_input_ids are the labels moved by one, as the teacher moves them.

    A padded length of the sources that equals that of the targets is made longer by one, so that the mask of the one
    is never taken for the other's.
    """
    pad = DataCollatorForSeq2Seq(tokenizer, model=teacher)

    def collate(rows: list[Any]) -> dict[str, Tensor]:
        batch = dict(pad([dict(row) for row in rows]))
        if batch["input_ids"].shape[1] == batch["labels"].shape[1]:
            padding = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0}
            batch |= {name: nn.functional.pad(batch[name], (0, 1), value=value) for name, value in padding.items()}
        return {**batch, "decoder_attention_mask": (batch["labels"] >= 0).long()}

    return collate


def evaluate_pairs(model: nn.Module, dataset: PairRows, collate: Collate) -> dict[str, float]:
    """chrF of what the model writes, greedily, and the perplexity of the tokens of the targets."""
    total, count = 0.0, 0
    written: dict[int, str] = {}
    for rows, batch, outputs in run_over(model, dataset, collate, size=EVALUATION_BATCH):
        labels = batch["labels"]
        logits = logits_of(outputs).float().flatten(0, 1)
        total += float(nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum"))
        count += int((labels >= 0).sum())
        sources = {name: batch[name] for name in ("input_ids", "attention_mask")}
        written |= dict(zip(rows, write(model, sources, dataset.tokenizer, dataset.longest), strict=True))
    mean = total / max(count, 1)
    return {
        "chrf": chrf([written[i] for i in range(len(dataset))], [pair.target for pair in dataset.pairs]),
        "perplexity": math.exp(mean) if mean < 700 else math.inf,
    }


def write(model: nn.Module, sources: dict[str, Tensor], tokenizer: Any, longest: int) -> list[str]:
    """The texts of `written_ids`."""
    return list(tokenizer.batch_decode(written_ids(model, sources, longest), skip_special_tokens=True))


def written_ids(model: nn.Module, sources: dict[str, Tensor], longest: int) -> Tensor:
    """The likeliest next token after the other, at most `longest` of them: (rows, tokens).

    Raises:
        InputError: the model cannot generate.
    """
    inner: Any = model
    if isinstance(model, Student):
        model.refresh()
        inner = model.module
    if not hasattr(inner, "generate"):
        raise InputError(
            f"{type(inner).__name__} cannot generate, so what it writes cannot be measured; choose a plan whose "
            "student its configuration describes."
        )
    with torch.no_grad():
        ids: Tensor = inner.generate(**sources, max_new_tokens=longest, do_sample=False, num_beams=1, use_cache=True)
    return ids


def _read(data: PairData, teacher: nn.Module) -> Splits:
    return Splits(*(read_pairs(path, source=data.source, target=data.target) for path in data.paths.values()))


SEQUENCE_TO_SEQUENCE = Task(
    metrics=(Metric("chrf"), Metric("perplexity", greater_is_better=False)),
    open_teacher=teacher_opener(AutoModelForSeq2SeqLM),
    start_teacher=lambda folder, data: teacher_opener(AutoModelForSeq2SeqLM, is_trained=False)(folder),
    read=_read,
    encode=encode_pairs,
    collator=lambda tokenizer, data, teacher: pair_collator(tokenizer, teacher),
    evaluate=evaluate_pairs,
    texts=lambda pairs: (text for pair in pairs for text in (pair.source, pair.target)),
    is_cacheable=False,
)
