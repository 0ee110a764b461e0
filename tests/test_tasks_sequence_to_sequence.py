"""Sequence to sequence: batches whose masks cannot be confused, what is written, and the whole job."""

from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import VOCABULARY, WORDS, interrupt_and_resume, make_tokenizer, write_job, write_rows

from edgefold.data.pairs import TextPair
from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.data import PairData
from edgefold.recipes.recipe import load_recipe
from edgefold.tasks.sequence_to_sequence import encode_pairs, evaluate_pairs, pair_collator, write

pytestmark = pytest.mark.filterwarnings("ignore")
DATA = (
    "{train: train.jsonl, validation: validation.jsonl, test: test.jsonl, max_source_length: 16, max_target_length: 6}"
)
SETTINGS = PairData(train=Path(), validation=Path(), test=Path(), max_source_length=16, max_target_length=6)


def make_teacher() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"d_model": 24, "d_kv": 6, "d_ff": 48, "num_layers": 1, "num_heads": 4, "vocab_size": len(VOCABULARY)}
    return T5ForConditionalGeneration(
        T5Config(**sizes, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0)
    ).eval()


def pair(number: int) -> TextPair:
    words = [WORDS[(number * k + k) % 14] for k in range(3, 6 + number % 4)]
    return TextPair(" ".join(words), " ".join(reversed(words)))


def test_no_mask_fits_the_other_side() -> None:
    teacher, tokenizer = make_teacher(), make_tokenizer()
    collate = pair_collator(tokenizer, teacher)
    pairs = [TextPair("worda wordb", "wordb worda"), TextPair("worda", "wordb wordc")]
    batch = collate([encode_pairs(pairs, tokenizer, SETTINGS)[i] for i in range(2)])
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (2, 5)
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == (2, 4)
    assert torch.equal(batch["decoder_attention_mask"], (batch["labels"] != -100).long())
    assert torch.equal(batch["decoder_input_ids"][:, 1:], batch["labels"][:, :-1].clamp_min(0))
    assert batch["attention_mask"].sum(1).tolist() == [4, 3]


def test_metrics_follow_from_what_is_written_and_from_the_models_own_loss() -> None:
    teacher, tokenizer = make_teacher(), make_tokenizer()
    pairs = [pair(number) for number in range(5)]
    dataset = encode_pairs(pairs, tokenizer, SETTINGS)
    metrics = evaluate_pairs(teacher, dataset, pair_collator(tokenizer, teacher))
    losses, count = 0.0, 0
    for i in range(5):
        ids, labels = (torch.tensor([dataset[i][name]]) for name in ("input_ids", "labels"))
        with torch.no_grad():
            losses += float(teacher(input_ids=ids, labels=labels).loss) * labels.numel()
        count += labels.numel()
    assert metrics["perplexity"] == pytest.approx(float(torch.tensor(losses / count).exp()), rel=1e-4)
    sources = tokenizer([pairs[0].source], return_tensors="pt")
    ids = [0]
    while len(ids) < 7 and ids[-1] != 3:
        with torch.no_grad():
            logits = teacher(input_ids=sources["input_ids"], decoder_input_ids=torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    sources = {name: sources[name] for name in ("input_ids", "attention_mask")}
    assert write(teacher, sources, tokenizer, 6) == [tokenizer.decode(ids, skip_special_tokens=True)]


def test_a_stopped_job_resumes_and_ends_in_an_ordinary_checkpoint(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    for split, count in (("train", 24), ("validation", 6), ("test", 6)):
        write_rows(tmp_path / f"{split}.jsonl", (vars(pair(number)) for number in range(count)))
    recipe = write_job(tmp_path, "translation", make_teacher(), make_tokenizer(), DATA)
    result = interrupt_and_resume(recipe, tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert 0 <= result.metrics[f"{split}_chrf"] <= 1
        assert result.metrics[f"{split}_perplexity"] > 1
    assert AutoModelForSeq2SeqLM.from_pretrained(result.student).config.d_model == 12


def test_refusals(tmp_path: Path) -> None:
    recipe = write_job(tmp_path, "summarization", make_teacher(), make_tokenizer(), DATA)
    for split in ("train", "validation", "test"):
        write_rows(tmp_path / f"{split}.jsonl", [{"source": "worda", "target": "wordb"}, {"source": "worda"}])
    with pytest.raises(InputError, match=r"train\.jsonl, line 2: no column 'target'; those present are 'source'"):
        compress(load_recipe(recipe), tmp_path / "student")
    assert sorted(path.name for path in tmp_path.iterdir() if "student" in path.name) == []
