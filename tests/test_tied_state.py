"""Tied and shared parameters: one tensor in checkpoints, one tensor after the fold, in every mode of training."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    TrainingArguments,
)

from edgefold.distillation import Objective
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import MODES
from edgefold.tracing.tied_state import keep_tied_once, other_names
from edgefold.training import CompressionTrainer

SIZES: dict[str, Any] = {"vocab_size": 101, "hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3}


def bert_lm() -> nn.Module:
    return BertForMaskedLM(BertConfig(num_hidden_layers=1, **SIZES))


def gpt2_lm() -> nn.Module:
    special = {"bos_token_id": 0, "eos_token_id": 1, "use_cache": False}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=101, n_embd=24, n_layer=2, n_head=3, n_positions=32, n_inner=40, **special)
    )


def albert() -> nn.Module:
    return AlbertForSequenceClassification(AlbertConfig(num_hidden_layers=3, embedding_size=16, **SIZES))


CASES: dict[str, tuple[Callable[[], nn.Module], list[Any], int]] = {
    "tied output of BERT": (bert_lm, [Select("units.0", 16), Select("heads", 2)], 1),
    "tied output of GPT-2": (gpt2_lm, [Project("hidden", 16), Select("ffn", 24), Select("heads", 2)], 1),
    "shared layers of ALBERT": (albert, [Project("hidden", 16), Select("ffn", 24)], 0),
}
"""A model, a plan, and how many further names its tied parameters have at least."""


def make_student(case: str, mode: str, batch: Callable[..., Any]) -> tuple[nn.Module, Any]:
    make, steps, _ = CASES[case]
    torch.manual_seed(0)
    teacher = make().double().eval()
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return teacher, build_student(teacher, Plan(steps), batch(), [batch(8)], mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_the_fold_is_exact_and_what_was_tied_stays_tied(case: str, mode: str, text_batch: Callable[..., Any]) -> None:
    teacher, student = make_student(case, mode, text_batch)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    plain, batch = fold(student), text_batch(3, 7, 2)
    expected = student(**batch).logits
    assert (plain(**batch).logits - expected).abs().max() <= 1e-10 * expected.abs().max()
    assert other_names(plain) == other_names(teacher)
    assert len(other_names(plain)) >= CASES[case][2]


@pytest.mark.parametrize("mode", MODES)
def test_a_tied_student_is_saved_and_resumed_by_the_trainer(
    mode: str, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    teacher, student = make_student("tied output of GPT-2", mode, text_batch)
    row = {name: value[0] for name, value in text_batch(1).items()}
    rows = [{**row, "labels": row["input_ids"]}] * 16
    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=2,
        save_strategy="steps",
        save_steps=1,
        learning_rate=1e-2,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=True,
    )
    ends = []
    for resume in (None, str(tmp_path / "checkpoint-1")):
        torch.manual_seed(0)
        running = copy.deepcopy(student).eval()
        for module in running.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        objective = Objective(hidden=0.0)
        trainer = CompressionTrainer(running, teacher=teacher, objective=objective, args=arguments, train_dataset=rows)
        trainer.train(resume_from_checkpoint=resume)
        ends.append(fold(running)(**text_batch()).logits)
    torch.testing.assert_close(*ends, rtol=1e-9, atol=1e-9)


def test_a_state_without_copies_is_safe_to_save_and_loads_strictly(tmp_path: Path) -> None:
    model = nn.ModuleDict({"table": nn.Embedding(5, 3), "out": nn.Linear(3, 5, bias=False)})
    model["out"].weight = model["table"].weight
    keep_tied_once(model)
    state = model.state_dict()
    assert list(state) == ["table.weight"]
    save_file(state, tmp_path / "state.safetensors")
    model.load_state_dict({"table.weight": torch.ones(5, 3)})
    assert bool((model["out"].weight == 1).all())
