"""The trainer minimises the objective it states, trains what the mode says, and resumes to the same loss."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainingArguments

from edgefold import compositions
from edgefold.distillation import Contrast, Objective
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import DropLayers, Plan, Project, Select, ShareLayers
from edgefold.student_building import build_student
from edgefold.students import MODES, Student
from edgefold.training import CompressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore")


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


@pytest.fixture
def make_student(make_bert_student: Callable[..., Any]) -> Callable[..., Student]:
    """A factory of the teacher's students by mode."""
    return partial(make_bert_student, dtype=torch.float32)


def test_the_loss_is_the_sum_of_its_terms(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    objective = Objective(task=0.3, logits=0.7, hidden=1.0, l1=1e-5, l2=1e-5)
    trainer = make_trainer(make_student(), teacher, rows, tmp_path, objective=objective)
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
def test_training_lowers_the_loss_and_reaches_everything_in_every_mode(
    mode: str,
    teacher: Any,
    rows: Any,
    make_student: Callable[..., Student],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    student = make_student(mode)
    arguments = {"max_steps": 40, "learning_rate": 3e-3}
    trainer = make_trainer(student, teacher, rows, tmp_path, arguments=arguments)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    assert "Training reached" not in caplog.text


def test_what_no_step_reaches_is_told(
    teacher: Any, rows: Any, make_bert: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A layer that runs without gradients; an embedding below it is reached by way of the residual stream."""
    student = make_bert(hidden_dropout_prob=0.0).float()
    frozen = student.bert.encoder.layer[1].output.dense
    frozen.forward = torch.no_grad()(frozen.forward)
    before = frozen.weight.detach().clone()
    make_trainer(student, teacher, rows, tmp_path, objective=Objective(hidden=0.0)).train()
    assert torch.equal(frozen.weight, before)
    (told,) = [record.message for record in caplog.records if record.name == "edgefold.training"]
    count = len(list(student.parameters()))
    assert f"reached {count - 4} of {count} parameters" in told
    assert "bert.encoder.layer.1.intermediate.dense.weight" in told
    caplog.clear()
    make_trainer(make_bert(), teacher, rows, tmp_path, objective=Objective(hidden=0.0)).train()
    assert "Training reached" not in caplog.text


def test_projection_mode_leaves_the_teachers_weights(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student("projection")
    sources = {name: value.clone() for name, value in student.sources.items()}
    projection = student.projections["hidden"].clone()
    make_trainer(student, teacher, rows, tmp_path).train()
    assert all(torch.equal(value, sources[name]) for name, value in student.sources.items())
    assert not torch.equal(student.projections["hidden"], projection)


def test_the_cache_changes_nothing_but_precision(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    losses = []
    for gibibytes in (0.0, 1.0):
        student = make_student()
        trainer = make_trainer(student, teacher, rows, tmp_path, teacher_cache_gib=gibibytes)
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)  # hidden states are held in half precision


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_run_resumes_to_the_same_weights(
    mode: str, teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 4, "gradient_accumulation_steps": 2}
    start = make_student(mode)
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
    make_student: Callable[..., Student],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {"composed": 0, "pulled back": 0}
    pull_back, compose = torch.autograd.grad, compositions.compose_weights

    def count(name: str, function: Any) -> Any:
        return lambda *args, **kwargs: (counts.update({name: counts[name] + 1}), function(*args, **kwargs))[1]

    student = make_student(mode)
    monkeypatch.setattr(compositions, "compose_weights", count("composed", compose))
    monkeypatch.setattr(torch.autograd, "grad", count("pulled back", pull_back))
    arguments = {"max_steps": 3, "gradient_accumulation_steps": 4, "gradient_checkpointing": True}
    make_trainer(student, teacher, rows, tmp_path, arguments=arguments).train()
    assert counts["pulled back"] == 3
    assert counts["composed"] <= 4


@pytest.mark.parametrize("mode", MODES)
def test_gradient_accumulation_is_a_larger_batch(
    mode: str, teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    weights = []
    start = make_student(mode)
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


def test_a_traced_student_learns_from_hidden_states(tmp_path: Path) -> None:
    from families import make

    model, inputs = make("literals")
    rows = [{"x": x} for x in torch.randn(16, 5, 6).double()]  # a traced forward takes what it was traced with alone
    student = build_student(model, Plan([Project("hidden", 12), Select("heads", 2)]), inputs, [inputs])
    objective = Objective(task=0.0, logits=0.0, hidden=1.0, relations=1.0)
    arguments = {"max_steps": 40, "learning_rate": 1e-2}
    trainer = make_trainer(student, model, rows, tmp_path, objective=objective, arguments=arguments)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


EVERYTHING = Objective(attention=1.0, relations=1.0, embeddings=1.0, cosine=1.0, contrastive=0.1)


def narrower(make_bert: Callable[..., Any]) -> Any:
    """Another model of half the depth: two heads of 8 against three."""
    sizes = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    return make_bert(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).float()


def test_a_model_made_elsewhere_learns_through_learned_maps_that_it_does_not_keep(
    teacher: Any, rows: Any, make_bert: Callable[..., Any], tmp_path: Path
) -> None:
    student = narrower(make_bert)
    names = list(student.state_dict())
    arguments = {"max_steps": 40, "learning_rate": 3e-3, "save_strategy": "steps", "save_steps": 20}
    trainer = make_trainer(student, teacher, rows, tmp_path, objective=EVERYTHING, arguments=arguments)
    maps = trainer.distillation.maps
    before = {name: value.clone() for name, value in maps.weights.items()}
    assert {name: tuple(value.shape) for name, value in before.items()} == {"16-24": (16, 24)}
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    for name in ("task", "logits", "hidden", "attention", "relations", "embeddings", "cosine", "contrastive"):
        assert f"loss_{name}" in entries[0]
    assert sum(entry["loss"] for entry in entries[-5:]) < 0.9 * sum(entry["loss"] for entry in entries[:5])
    assert not torch.equal(maps.weights["16-24"], before["16-24"])
    assert list(student.state_dict()) == names
    saved = load_file(tmp_path / "checkpoint-20" / "model.safetensors")
    assert set(saved) == {*names, "edgefold_maps.weights.16-24"}


def test_learned_maps_resume_with_the_student(
    teacher: Any, rows: Any, make_bert: Callable[..., Any], tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": 4}
    whole = make_trainer(narrower(make_bert), teacher, rows, tmp_path, objective=EVERYTHING, arguments=saving)
    whole.train()
    resumed = make_trainer(narrower(make_bert), teacher, rows, tmp_path, objective=EVERYTHING, arguments=saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    torch.testing.assert_close(
        whole.distillation.maps.weights["16-24"], resumed.distillation.maps.weights["16-24"], rtol=1e-5, atol=1e-6
    )
    for mine, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_what_is_not_finite_ends_the_training_at_once(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student()
    with torch.no_grad():
        teacher.classifier.bias[0] = torch.nan
    trainer = make_trainer(student, teacher, rows, tmp_path, objective=Objective(task=0.3, logits=0.7, hidden=1.0))
    with pytest.raises(InputError, match=r"The loss term logits is nan in step 1: .* the teacher's outputs"):
        trainer.train()


@pytest.mark.parametrize("task", [0.0, 0.5])
def test_labels_are_given_to_a_student_whose_own_loss_counts(
    task: float, teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    """A model computes a loss wherever it is given labels; of a language model that is another tensor of its logits."""
    student, given = make_student(), set()
    student.module.register_forward_pre_hook(lambda _, __, named: given.update(named), with_kwargs=True)
    objective = Objective(task=task, logits=1.0, hidden=0.0)
    make_trainer(student, teacher, rows, tmp_path, objective=objective, arguments={"max_steps": 1}).train()
    assert "input_ids" in given
    assert ("labels" in given) is (task > 0)


@pytest.mark.parametrize("half", [False, True])
def test_the_teacher_computes_in_the_precision_of_the_training(
    half: bool, teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student, seen = make_student(), {}
    for name, model in (("teacher", teacher), ("student", student.module)):
        model.classifier.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.dtype}))
    make_trainer(student, teacher, rows, tmp_path, arguments={"max_steps": 1, "bf16": half}).train()
    assert seen == dict.fromkeys(("teacher", "student"), torch.bfloat16 if half else torch.float32)


def test_a_batch_with_nothing_to_predict_has_no_loss_of_the_task(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    """Labels that are to be ignored, all of a batch: their mean would be 0 / 0."""
    ignored = [{**row, "labels": -100} for row in rows]
    student = make_student()
    before = [parameter.clone() for parameter in student.parameters()]
    trainer = make_trainer(student, teacher, ignored, tmp_path, objective=Objective(task=1, logits=0, hidden=0))
    trainer.train()
    losses = [log["loss_task"] for log in trainer.state.log_history if "loss_task" in log]
    assert losses == [0.0] * 8
    for mine, other in zip(before, student.parameters(), strict=True):
        assert torch.equal(mine, other)


@pytest.mark.parametrize("cache", [0.0, 1.0])
def test_what_forward_does_not_read_is_removed_and_nothing_else(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path, cache: float
) -> None:
    """As transformers' own default has it."""
    more = [{**row, "number": 3} for row in rows]
    arguments = {"remove_unused_columns": True}
    losses = [
        make_trainer(make_student(), teacher, data, tmp_path, arguments=given, teacher_cache_gib=cache)
        .train()
        .training_loss
        for data, given in ((rows, {}), (more, arguments))
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("positives", ["teacher", "dropout", "labels"])
def test_contrasts_are_learned(
    positives: str, rows: Any, make_bert: Callable[..., Any], make_student: Callable[..., Student], tmp_path: Path
) -> None:
    teacher = make_bert().float()  # with dropout
    objective = Objective(task=0.0, logits=0.0, hidden=0.0, contrastive=1.0, contrast=Contrast(positives))
    student = make_student(dropout=0.1)
    arguments = {"max_steps": 40, "learning_rate": 3e-3, "per_device_train_batch_size": 8}
    needed = teacher if positives == "teacher" else None
    trainer = make_trainer(student, needed, rows, tmp_path, objective=objective, arguments=arguments)
    trainer.train()
    losses = [entry["loss_contrastive"] for entry in trainer.state.log_history if "loss_contrastive" in entry]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_two_equal_views_are_refused(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    objective = Objective(contrastive=1.0, contrast=Contrast("dropout"))
    trainer = make_trainer(make_student(), teacher, rows, tmp_path, objective=objective)
    with pytest.raises(InputError, match="needs a student with dropout, but both views of a batch are equal"):
        trainer.train()


def test_two_views_cost_no_other_term_its_meaning(
    rows: Any,
    make_bert: Callable[..., Any],
    text_batch: Callable[..., Any],
    make_student: Callable[..., Student],
    tmp_path: Path,
) -> None:
    """Where only the pooled output meets dropout, all terms before it are those of a single view."""
    teacher = make_bert(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).float()
    student, batch = make_student(), {**text_batch(), "labels": torch.tensor([0, 1, 0, 1])}
    found = []
    for contrast in (Contrast("labels"), Contrast("dropout")):
        objective = Objective(contrastive=1.0, contrast=contrast)
        distillation = make_trainer(student, teacher, rows, tmp_path, objective=objective).distillation
        inputs = text_batch()
        seen = distillation.run_student(student.eval(), distillation.views(inputs))
        said = distillation.run_teacher(teacher, inputs)
        found.append(distillation._from_teacher(seen.head(4), said, inputs))
    assert len(distillation.views(batch)["labels"]) == 8
    for name, loss in found[0].items():
        torch.testing.assert_close(found[1][name], loss)


def test_other_tokenizers_are_refused(
    teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    class Numbering:
        def __init__(self, **numbers: int) -> None:
            self.get_vocab = lambda: numbers

    student = make_student()
    with pytest.raises(InputError, match=r"2 tokens, the teacher's 2, and 2 differ"):
        make_trainer(
            student,
            teacher,
            rows,
            tmp_path,
            processing_class=Numbering(a=0, b=1),
            teacher_tokenizer=Numbering(a=1, b=0),
        )


def test_data_without_a_length_are_not_recorded(
    teacher: Any, make_student: Callable[..., Student], tmp_path: Path
) -> None:
    student = make_student()
    with pytest.raises(InputError, match=r"teacher_cache_folder='out' needs training data that can be numbered; got"):
        make_trainer(student, teacher, (row for row in ()), tmp_path, teacher_cache_folder="out")


def test_what_is_missing_is_said(teacher: Any, rows: Any, make_student: Callable[..., Student], tmp_path: Path) -> None:
    student = make_student()
    with pytest.raises(InputError, match=r"Objective\(logits=0\.7, hidden=1\.0\) needs a teacher; pass teacher="):
        make_trainer(student, None, rows, tmp_path)
    with pytest.raises(InputError, match=r"set hidden=0 for this student"):
        make_trainer(nn.Linear(2, 2), teacher, rows, tmp_path)
