"""The trainer minimises the objective it states, trains what the mode says, and resumes to the same loss."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from edgefold import compositions
from edgefold.distillation import Objective
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import DropLayers, Plan, Project, Select, ShareLayers
from edgefold.student_building import build_student
from edgefold.students import MODES, Student
from edgefold.training import CompressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
PLAN = Plan([Project("hidden", 16), Select("ffn", 24), Select("heads", 2)])


@pytest.fixture
def teacher(make_bert: Callable[..., Any]) -> Any:
    return make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).float()


@pytest.fixture
def rows(text_batch: Callable[..., Any]) -> list[dict[str, Any]]:
    batch = text_batch(16, 9)
    return [{**{name: value[i] for name, value in batch.items()}, "labels": i % 2} for i in range(16)]


def make_trainer(student: nn.Module, teacher: Any, rows: Any, out: Path, **options: Any) -> CompressionTrainer:
    settings = {
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "lr_scheduler_type": "linear",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": True,
        **options.pop("arguments", {}),
    }
    return CompressionTrainer(
        student, teacher=teacher, args=TrainingArguments(str(out), **settings), train_dataset=rows, **options
    )


def make_student(teacher: Any, text_batch: Callable[..., Any], mode: str = "weights") -> Student:
    return build_student(teacher, PLAN, text_batch(), [text_batch(8)], mode)


def test_the_loss_is_the_sum_of_its_terms(
    teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    objective = Objective(task=0.3, logits=0.7, hidden=1.0, l1=1e-5, l2=1e-5)
    trainer = make_trainer(make_student(teacher, text_batch), teacher, rows, tmp_path, objective=objective)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logged) == 8
    for entry in logged:
        terms = {name: value for name, value in entry.items() if name.startswith("loss_")}
        assert set(terms) == {"loss_task", "loss_logits", "loss_hidden", "loss_l1", "loss_l2"}
        assert sum(terms.values()) == pytest.approx(entry["loss"], rel=1e-4)


def test_the_teacher_as_its_own_student_has_nothing_to_learn(
    teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    student = build_student(teacher, Plan([Project("hidden", 24)]), text_batch(), [text_batch(8, 12, 3)])
    objective = Objective(task=0.0, logits=1.0, hidden=1.0)
    trainer = make_trainer(student.train(), teacher, rows, tmp_path, objective=objective)
    batch = {**text_batch(), "labels": torch.tensor([0, 1, 0, 1])}
    assert float(trainer.compute_loss(student, batch)) < 1e-6


def test_hidden_states_are_compared_with_those_of_the_layer_that_was_kept(
    make_decoder: Callable[..., Any], rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    """A teacher whose other layers do nothing is its student, layer for layer."""
    teacher = make_decoder(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    with torch.no_grad():
        for index in (0, 2):
            for output in (teacher.transformer.h[index].attn.c_proj, teacher.transformer.h[index].mlp.c_proj):
                output.weight.zero_()
                output.bias.zero_()
    student = build_student(teacher, Plan([DropLayers(keep=(1, 3))]), text_batch(), [text_batch()])
    objective = Objective(task=0.0, logits=1.0, hidden=1.0)
    trainer = make_trainer(student.train(), teacher, rows, tmp_path, objective=objective)
    assert len(student.matches) > 2
    assert float(trainer.compute_loss(student, text_batch())) < 1e-12


def test_checkpoints_of_shared_layers_resume(
    make_bert: Callable[..., Any], rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    quiet = make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).float()
    saving = {"save_strategy": "steps", "save_steps": 4}
    last = []
    for resume in (None, str(tmp_path / "checkpoint-4")):
        student = build_student(quiet, Plan([ShareLayers()]), text_batch(), [text_batch(8)])
        trainer = make_trainer(student, quiet, rows, tmp_path, arguments=saving)
        trainer.train(resume_from_checkpoint=resume)
        last.append(trainer.state.log_history[-2]["loss"])
    assert last[0] == pytest.approx(last[1], rel=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_training_lowers_the_loss_in_every_mode(
    mode: str, teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    student = make_student(teacher, text_batch, mode)
    arguments = {"max_steps": 40, "learning_rate": 3e-3}
    trainer = make_trainer(student, teacher, rows, tmp_path, arguments=arguments)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])


def test_projection_mode_leaves_the_teachers_weights(
    teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    student = make_student(teacher, text_batch, "projection")
    sources = {name: value.clone() for name, value in student.sources.items()}
    projection = student.projections["hidden"].clone()
    make_trainer(student, teacher, rows, tmp_path).train()
    assert all(torch.equal(value, sources[name]) for name, value in student.sources.items())
    assert not torch.equal(student.projections["hidden"], projection)


def test_the_cache_changes_nothing_but_precision(
    teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    losses = []
    for gibibytes in (0.0, 1.0):
        student = make_student(teacher, text_batch)
        trainer = make_trainer(student, teacher, rows, tmp_path, teacher_cache_gib=gibibytes)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # hidden states are held in half precision


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_resumes_to_the_same_weights(
    mode: str, teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 4, "gradient_accumulation_steps": 2}
    start = make_student(teacher, text_batch, mode)
    whole = make_trainer(copy.deepcopy(start), teacher, rows, tmp_path / "whole", arguments=saving)
    whole.train()
    resumed = make_trainer(start, teacher, rows, tmp_path / "other", arguments=saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    last = [trainer.state.log_history[-2]["loss"] for trainer in (whole, resumed)]
    assert last[0] == pytest.approx(last[1], rel=1e-6)
    ends = [fold(trainer.model).state_dict() for trainer in (whole, resumed)]
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["projection", "all"])
def test_weights_are_composed_once_a_step(
    mode: str,
    teacher: Any,
    rows: Any,
    text_batch: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {"composed": 0, "pulled back": 0}
    pull_back, compose = torch.autograd.grad, compositions.compose_weights

    def count(name: str, function: Any) -> Any:
        return lambda *args, **kwargs: (counts.update({name: counts[name] + 1}), function(*args, **kwargs))[1]

    student = make_student(teacher, text_batch, mode)
    monkeypatch.setattr(compositions, "compose_weights", count("composed", compose))
    monkeypatch.setattr(torch.autograd, "grad", count("pulled back", pull_back))
    arguments = {"max_steps": 3, "gradient_accumulation_steps": 4, "gradient_checkpointing": True}
    make_trainer(student, teacher, rows, tmp_path, arguments=arguments).train()
    assert counts["pulled back"] == 3
    assert counts["composed"] <= 4


@pytest.mark.parametrize("mode", MODES)
def test_gradient_accumulation_is_a_larger_batch(
    mode: str, teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    weights = []
    start = make_student(teacher, text_batch, mode)
    for arguments in (
        {"per_device_train_batch_size": 8},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "gradient_checkpointing": True},
    ):
        student = copy.deepcopy(start)
        objective = Objective(hidden=0.0)  # its normaliser is the batch's own, so it is no mean over rows
        settings = {**arguments, "max_steps": 1, "max_grad_norm": 0.0, "learning_rate": 0.1, "optim": "sgd"}
        make_trainer(student, teacher, rows, tmp_path, objective=objective, arguments=settings).train()
        weights.append(fold(student).classifier.weight.detach().clone())
    for other in weights[1:]:
        torch.testing.assert_close(weights[0], other, rtol=1e-4, atol=1e-6)


def test_what_is_missing_is_said(teacher: Any, rows: Any, text_batch: Callable[..., Any], tmp_path: Path) -> None:
    student = make_student(teacher, text_batch)
    with pytest.raises(InputError, match="needs a teacher; pass teacher="):
        make_trainer(student, None, rows, tmp_path)
    with pytest.raises(InputError, match=r"set hidden=0 for this student"):
        make_trainer(nn.Linear(2, 2), teacher, rows, tmp_path)
