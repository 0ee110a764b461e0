"""Language modeling: perplexity by its definition, and the whole job."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_jobs import TEXT, VOCABULARY, interrupt_and_resume, make_tokenizer, write_job, write_texts

from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.data import PlainText
from edgefold.recipes.recipe import load_recipe
from edgefold.tasks.language_modeling import LANGUAGE_MODELING, perplexity
from edgefold.tasks.token_blocks import TokenBlocks

pytestmark = pytest.mark.filterwarnings("ignore")


def make_teacher() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(VOCABULARY), n_embd=24, n_layer=2, n_head=4, n_positions=32))


def test_perplexity_is_the_exponential_of_the_mean_loss() -> None:
    """Against the model's own loss, one block at a time."""
    teacher = make_teacher().eval()
    blocks = TokenBlocks(np.arange(230, dtype=np.int32) % len(VOCABULARY), 16)
    losses = []
    for i in range(len(blocks)):
        ids = torch.tensor([blocks[i]["input_ids"]])
        with torch.no_grad():
            losses.append(float(teacher(input_ids=ids, labels=ids).loss))
    collate = LANGUAGE_MODELING.collator(None, PlainText(train=Path(), validation=Path(), test=Path()), teacher)
    assert perplexity(teacher, blocks, collate) == pytest.approx(math.exp(np.mean(losses)), rel=1e-5)


def test_a_stopped_job_resumes_and_ends_in_an_ordinary_checkpoint(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_texts(tmp_path)
    recipe = write_job(tmp_path, "language-modeling", make_teacher(), make_tokenizer(), TEXT.format(""))
    result = interrupt_and_resume(recipe, tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert 1 < result.metrics[f"{split}_perplexity"] < 100
    assert "eval_perplexity" in result.curve[-1].figures
    student = AutoModelForCausalLM.from_pretrained(result.student)
    assert student.config.n_embd == 12
    assert student.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape == (1, 5)


def test_refusals(tmp_path: Path) -> None:
    write_texts(tmp_path)
    recipe = write_job(tmp_path, "language-modeling", make_teacher(), make_tokenizer(), TEXT.format(""))
    job = load_recipe(recipe)
    long = job.model_copy(update={"data": job.data.model_copy(update={"block_length": 33})})
    with pytest.raises(InputError, match=r"data\.block_length is 33, the teacher reads 32 tokens"):
        compress(long, tmp_path / "student")
    (tmp_path / "test.txt").unlink()
    with pytest.raises(InputError, match=r"data\.test: .*test\.txt does not exist"):
        compress(job, tmp_path / "student")
