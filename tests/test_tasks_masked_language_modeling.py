"""Masked language modeling: the whole job for MLM, MLM + NSP under the seed method's loss, and MLM + SOP."""

from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import SIZES, TEXT, interrupt_and_resume, make_tokenizer, write_job, write_texts

from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.recipe import load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")
PLAN = "plan: [drop_layers: {keep: [1]}]\n"
SEED_METHOD = "objective: {task: 1, logits: 0, hidden: 0, l1: 1.0e-5, l2: 1.0e-5}\n"


def job_of(folder: Path, model: str, data: str, more: str = "objective: {hidden: 0}\n", **fields: Any) -> Path:
    import transformers

    torch.manual_seed(0)
    write_texts(folder)
    config = getattr(transformers, f"{model.split('For')[0]}Config")(**SIZES, **fields)
    teacher = getattr(transformers, model)(config)
    return write_job(
        folder, "masked-language-modeling", teacher, make_tokenizer(), TEXT.format(data), plan=PLAN, more=more
    )


def test_masked_tokens_alone(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    result = interrupt_and_resume(job_of(tmp_path, "BertForMaskedLM", ""), tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert result.metrics[f"{split}_perplexity"] > 1
        assert 0 <= result.metrics[f"{split}_accuracy"] <= 1
    assert not any("pair" in name for name in result.metrics)
    assert AutoModelForMaskedLM.from_pretrained(result.student).config.num_hidden_layers == 1


def test_the_seed_methods_loss(tmp_path: Path) -> None:
    """L_MLM + L_NSP + l1 |w|_1 + l2 |w|_2^2: the terms that are logged, and nothing of the teacher among them."""
    recipe = job_of(tmp_path, "BertForPreTraining", ", pairs: nsp", SEED_METHOD)
    recipe.write_text(recipe.read_text().replace("epochs: 1", "epochs: 10"))
    result = compress(load_recipe(recipe), tmp_path / "student")
    assert 0 <= result.metrics["test_pair_accuracy"] <= 1
    terms = next(point.figures for point in result.curve if "loss" in point.figures)
    assert {name for name in terms if name.startswith("loss_")} == {"loss_task", "loss_l1", "loss_l2"}
    assert terms["loss"] == pytest.approx(sum(terms[f"loss_{name}"] for name in ("task", "l1", "l2")), rel=1e-3)


def test_the_order_of_sentences(tmp_path: Path) -> None:
    recipe = job_of(tmp_path, "AlbertForPreTraining", ", pairs: sop", embedding_size=16)
    recipe.write_text(recipe.read_text().replace(PLAN, "plan: [select: {dimension: heads, size: 2}]\n"))
    assert 0 <= compress(load_recipe(recipe), tmp_path / "student").metrics["test_pair_accuracy"] <= 1


def test_pairs_need_a_teacher_with_that_head(tmp_path: Path) -> None:
    recipe = job_of(tmp_path, "BertForMaskedLM", ", pairs: sop")
    with pytest.raises(InputError, match="must be AlbertForPreTraining; this one is BertForMaskedLM"):
        compress(load_recipe(recipe), tmp_path / "student")
