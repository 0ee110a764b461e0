"""The penalties of an objective in training: as terms of the loss, as proximal steps, and resumed."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from edgefold.dimensions import trace
from edgefold.distillation import Objective
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.penalties import L1, L2, ActivationL1, ElasticNet, GroupLasso, NuclearNorm, Orthogonality, Penalty
from edgefold.students import Student
from edgefold.training import CompressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def teacher(make_bert: Callable[..., Any]) -> Any:
    return make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).float()


@pytest.fixture
def rows(text_batch: Callable[..., Any]) -> list[dict[str, Any]]:
    batch = text_batch(16, 9)
    return [{**{name: value[i] for name, value in batch.items()}, "labels": i % 2} for i in range(16)]


def make_trainer(
    student: nn.Module, teacher: Any, rows: Any, out: Path, *penalties: Penalty, **arguments: Any
) -> CompressionTrainer:
    settings: dict[str, Any] = {
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": True,
        **arguments,
    }
    objective = Objective(hidden=0.0, penalties=penalties)
    arguments_ = TrainingArguments(str(out), **settings)
    return CompressionTrainer(student, teacher=teacher, objective=objective, args=arguments_, train_dataset=rows)


@pytest.fixture
def make_student(make_bert_student: Callable[..., Any]) -> Callable[..., Student]:
    """A factory of the teacher's students by mode."""
    return partial(make_bert_student, dtype=torch.float32)


def test_smooth_penalties_are_terms_of_the_loss_in_every_mode(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    smooth = (
        L1(1e-4, proximal=False),
        L1(1e-4, "query", proximal=False),
        L2(1e-4, proximal=False),
        ElasticNet(1e-4, proximal=False),
        NuclearNorm(1e-4, "query", proximal=False),
        GroupLasso(1e-4, "ffn", proximal=False),
        GroupLasso(1e-4, "heads.1", proximal=False),
        ActivationL1(1e-2, "intermediate"),
    )
    names = ("l1", "l1_2", "l2", "elastic_net", "nuclear_norm", "group_lasso", "group_lasso_2", "activation_l1")
    for mode in ("weights", "all", "projection"):
        student = make_student(mode)
        penalties = smooth if mode == "weights" else (*smooth, Orthogonality(0.1))
        trainer = make_trainer(student, teacher, rows, tmp_path, *penalties, max_steps=2)
        trainer.train()
        entry = trainer.state.log_history[-2]
        terms = {name.removeprefix("loss_"): value for name, value in entry.items() if name.startswith("loss_")}
        assert set(terms) == {"task", "logits", *names, *(() if mode == "weights" else ("orthogonality",))}
        assert sum(terms.values()) == pytest.approx(entry["loss"], rel=1e-3)
        assert all(value > 0 for value in terms.values())


def test_the_groups_of_a_dimension_are_its_norms(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    """Of the composed weights, in mode all as well: the value is the sum over neurons by hand."""
    student = make_student("all")
    trainer = make_trainer(student, teacher, rows, tmp_path, GroupLasso(1.0, "ffn.0", proximal=False))
    (value,) = trainer.penalties.values(student, {}, {}).values()
    layer = student.module.bert.encoder.layer[0]
    up, bias, down = layer.intermediate.dense.weight, layer.intermediate.dense.bias, layer.output.dense.weight
    by_hand = torch.cat([up, bias[:, None], down.T], 1).norm(dim=1).sum() * 33**0.5
    torch.testing.assert_close(value, by_hand)


def test_activations_at_padding_do_not_count(
    teacher: Any, rows: Any, text_batch: Callable[..., Any], make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student()
    trainer = make_trainer(student, teacher, rows, tmp_path, ActivationL1(2.0, "*layer.0.intermediate"))
    output = torch.randn(4, 9, 5)
    (path,) = trainer.penalties.paths
    (value,) = trainer.penalties.values(student, {path: output}, text_batch()).values()
    kept = output[text_batch()["attention_mask"].bool()]
    torch.testing.assert_close(value, 2 * kept.abs().mean())


def test_neurons_and_heads_die_whole(
    teacher: Any, rows: Any, text_batch: Callable[..., Any], make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student()
    penalties = (GroupLasso(2e-3, "ffn"), GroupLasso(3e-3, "heads"))
    arguments = {"max_steps": 60, "learning_rate": 3e-3}
    trainer = make_trainer(student, teacher, rows, tmp_path, *penalties, **arguments)
    trainer.train()
    assert not any("group_lasso" in name for entry in trainer.state.log_history for name in entry)
    plain = fold(student, remove_dead=False)
    graph = trace(plain, text_batch())
    weights = dict(plain.named_parameters())
    for family in ("ffn", "heads"):
        dead = 0
        for dimension in graph.match(family):
            slices = [
                weights[member.parameter].detach().movedim(member.axis, 0).reshape(dimension.size, -1).abs().sum(1)
                for member in dimension.members
                if member.parameter in weights
            ]
            zero = torch.stack([each == 0 for each in slices])
            assert torch.equal(zero.any(0), zero.all(0))  # a coordinate dies in all its slices or in none
            dead += int(zero.all(0).sum())
        assert 0 < dead < 2 * graph.match(family)[0].size, family


def test_ranks_drop_and_weights_vanish(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student()
    penalties = (NuclearNorm(3e-2, "intermediate", every=4), L1(1e-3, "query"))
    make_trainer(student, teacher, rows, tmp_path, *penalties, max_steps=42, learning_rate=3e-3).train()
    layer = student.module.bert.encoder.layer[0]
    sigma = torch.linalg.svdvals(layer.intermediate.dense.weight.detach().double())
    assert int((sigma > 1e-6 * sigma[0]).sum()) < 16
    assert 0.05 < float((layer.attention.self.query.weight == 0).float().mean()) < 1
    assert not bool((layer.attention.self.key.weight == 0).any())


def test_gradient_accumulation_takes_one_proximal_step(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    start, weights = make_student(), []
    for arguments in (
        {"per_device_train_batch_size": 8},
        {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2},
    ):
        student = copy.deepcopy(start)
        settings = {**arguments, "max_steps": 1, "max_grad_norm": 0.0, "learning_rate": 0.1, "optim": "sgd"}
        make_trainer(student, teacher, rows, tmp_path, L1(0.1), **settings).train()
        weights.append(student.module.classifier.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-6)


def test_a_killed_run_resumes_to_the_same_zeros(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    start = make_student()
    penalties = (GroupLasso(2e-3, "ffn"), NuclearNorm(1e-2, "query", every=3))
    saving = {"save_strategy": "steps", "save_steps": 4, "max_steps": 10, "learning_rate": 3e-3}
    whole = make_trainer(copy.deepcopy(start), teacher, rows, tmp_path / "whole", *penalties, **saving)
    whole.train()
    resumed = make_trainer(start, teacher, rows, tmp_path / "other", *penalties, **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    ends = [trainer.model.module.state_dict() for trainer in (whole, resumed)]
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-6)
        assert torch.equal(ends[1][name] == 0, value == 0)


def test_a_plain_module_is_penalised_by_rows(teacher: Any, rows: Any, tmp_path: Path) -> None:
    trainer = CompressionTrainer(
        teacher,
        objective=Objective(task=1.0, logits=0.0, hidden=0.0, penalties=(GroupLasso(1e4, "rows", "classifier"),)),
        args=TrainingArguments(str(tmp_path), max_steps=2, report_to=[], use_cpu=True, remove_unused_columns=False),
        train_dataset=rows,
    )
    trainer.train()
    assert not teacher.classifier.weight.any()


def test_what_does_not_go_is_said(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    composed, own = make_student("all"), make_student()
    with pytest.raises(InputError, match=r"cannot take proximal steps on bert.* composed anew in every step. Build"):
        make_trainer(composed, teacher, rows, tmp_path, L1(0.1))
    with pytest.raises(InputError, match=r"Orthogonality needs trained projections: a student with a Project step"):
        make_trainer(own, teacher, rows, tmp_path, Orthogonality(0.1))
    with pytest.raises(InputError, match=r"know the scaling of AdamW, Adam and SGD; got Adagrad"):
        make_trainer(own, teacher, rows, tmp_path, L1(0.1), optim="adagrad").train()
    with pytest.raises(InputError, match=r"takes example inputs; train a student made by build_student"):
        make_trainer(teacher, teacher, rows, tmp_path, GroupLasso(0.1, "ffn"))
    with pytest.raises(InputError, match=r"penalties holds 3; it takes instances of L1"):
        Objective(penalties=(3,))  # type: ignore[arg-type]
