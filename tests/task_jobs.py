"""Tiny teachers with their tokenizers and recipes, one for each task: what the job is held against."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WORDS = [f"word{letter}" for letter in "abcdefghijklmn"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *WORDS, "##s", "##ing"]
SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": len(VOCABULARY),
    "max_position_embeddings": 64,
}
PLAN = (
    "plan: [project: {dimension: hidden, size: 12}, select: {dimension: ffn, size: 16}, "
    "select: {dimension: heads, size: 2}]\n"
)
TRAINING = "training: {epochs: 1, batch_size: 8, threads: 1}\ncalibration: {samples: 32}\n"
TEXT = "{{train: train.txt, validation: validation.txt, test: test.txt, block_length: 16{}}}"


def make_tokenizer() -> Any:
    """Words at blanks; [CLS] A [SEP] B [SEP]; the words of `WORDS` and, in pieces, what begins with one of them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)},
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def write_job(
    folder: Path, task: str, teacher: Any, processor: Any, data: str, *, plan: str = PLAN, more: str = ""
) -> Path:
    """Save a teacher and its processor, and a recipe for them; returns the recipe."""
    teacher.save_pretrained(folder / "teacher")
    if processor is not None:
        processor.save_pretrained(folder / "teacher")
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"teacher: teacher\ntask: {task}\ndata: {data}\n{plan}{TRAINING}{more}")
    return recipe


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """As jsonl."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_texts(folder: Path) -> None:
    """train.txt, validation.txt, test.txt: lines of words."""
    for split, count in (("train", 60), ("validation", 20), ("test", 20)):
        lines = [" ".join(WORDS[(i * k + k) % 14] for k in range(1, 12)) for i in range(count)]
        (folder / f"{split}.txt").write_text("\n".join(lines) + "\n")


def write_stages(folder: Path) -> Path:
    """pretrained/ (masked tokens and pairs) and classifier/, of one architecture; *.txt, and their lines as *.csv.

    The decoder of masked tokens is no part of the embeddings, so that the residual stream can be projected.
    """
    import torch
    from transformers import BertConfig, BertForPreTraining, BertForSequenceClassification

    write_texts(folder)
    for split in ("train", "validation", "test"):
        lines = (folder / f"{split}.txt").read_text().splitlines()
        rows = [f"{line},{index % 2}" for index, line in enumerate(lines)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    torch.manual_seed(0)
    for name, kind in (("pretrained", BertForPreTraining), ("classifier", BertForSequenceClassification)):
        model = kind(BertConfig(**SIZES, tie_word_embeddings=False))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        model.save_pretrained(folder / name)
        make_tokenizer().save_pretrained(folder / name)
    return folder


def interrupt_and_resume(recipe: Path, out: Path) -> Any:
    """Stop the job at a step after its first checkpoint, and let --resume end it; returns the result."""
    from edgefold.jobs.compression import compress
    from edgefold.recipes.recipe import load_recipe

    class Stopped(Exception):
        pass

    job = load_recipe(recipe)
    job = job.model_copy(update={"training": job.training.model_copy(update={"epochs": 2, "checkpoint_steps": 1})})

    def stop(stage: str, done: int, total: int, figures: Mapping[str, float]) -> None:
        if stage == "train" and done == 2:
            raise Stopped

    try:
        compress(job, out, progress=stop)
    except Stopped:
        return compress(job, out, resume=True)
    raise AssertionError("the job ended before it was stopped")
