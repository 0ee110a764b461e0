"""Masks in training: exact after every step, grown on schedule, resumed as they were, with movement as its sum."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from edgefold.distillation import Objective
from edgefold.folding import fold
from edgefold.masks.steps import NM, Block, Unstructured, zeros_at
from edgefold.plans import Plan
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.training import CompressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 20


class Net(nn.Module):
    """x: (batch, 8) -> (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.last(torch.tanh(self.second(torch.tanh(self.first(x)))))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    return [{"x": torch.randn(8, generator=generator), "labels": i % 3} for i in range(48)]


def make_student(*steps: Any) -> Student:
    torch.manual_seed(0)
    inputs = {"x": torch.randn(32, 8)}
    return build_student(Net().eval(), Plan(steps), inputs, [inputs])


def make_trainer(student: Student, rows: Any, out: Path, callbacks: Any = (), **arguments: Any) -> CompressionTrainer:
    settings = {
        "max_steps": STEPS,
        "per_device_train_batch_size": 8,
        "learning_rate": 0.02,
        "weight_decay": 0.01,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": True,
        **arguments,
    }
    return CompressionTrainer(
        student,
        objective=Objective(task=1.0, logits=0.0, hidden=0.0),
        args=TrainingArguments(str(out), **settings),
        train_dataset=rows,
        callbacks=list(callbacks),
    )


class Recorder(TrainerCallback):
    """The masked parameters as they are where a step has ended and the next forward pass begins."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.seen: list[dict[str, Tensor]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._record()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._record()

    def _record(self) -> None:
        names = self.student.masks.by_parameter
        self.seen.append({name: self.student.module.get_parameter(name).detach().clone() for name in names})


def record(student: Student, rows: Any, out: Path, **arguments: Any) -> list[dict[str, Tensor]]:
    recorder = Recorder(student)
    make_trainer(student.train(), rows, out, [recorder], **arguments).train()
    assert len(recorder.seen) == STEPS + 1
    return recorder.seen


@pytest.mark.parametrize("score", ["magnitude", "wanda"])
@pytest.mark.parametrize("optimizer", ["adamw_torch", "sgd"])
def test_two_of_four_hold_after_every_step(score: str, optimizer: str, rows: Any, tmp_path: Path) -> None:
    student = make_student(NM(2, 4, score=score))
    seen = record(student, rows, tmp_path, optim=optimizer, optim_args="momentum=0.9" if optimizer == "sgd" else None)
    for weights in seen:
        for name, weight in weights.items():
            assert ((weight.reshape(-1, 4) != 0).sum(1) == 2).all(), name
            assert torch.equal(weight == 0, seen[0][name] == 0), name
    assert all(not torch.equal(seen[-1][name], weight) for name, weight in seen[0].items())
    assert fold(student)


@pytest.mark.parametrize(
    "step",
    [
        Unstructured(0.8, begin=0.1, end=0.6),
        Unstructured(0.8, score="movement", begin=0.1, end=0.6),
        Block(0.5, (1, 4), score="movement"),
        NM(1, 4, end=0.5),
    ],
    ids=str,
)
def test_zeros_grow_on_schedule_and_never_come_back(step: Any, rows: Any, tmp_path: Path) -> None:
    unit = 4 if isinstance(step, Block) else 1
    seen = record(make_student(step), rows, tmp_path, gradient_accumulation_steps=2)
    for done, weights in enumerate(seen):
        for name, weight in weights.items():
            assert int((weight == 0).sum()) == zeros_at(step, weight.numel() // unit, done / STEPS) * unit, name
            if done:
                assert not ((seen[done - 1][name] == 0) & (weight != 0)).any(), name
    assert all((weight == 0).any() for weight in seen[-1].values())


@pytest.mark.parametrize("score", ["magnitude", "movement", "wanda"])
def test_an_interrupted_run_resumes_to_the_same_masks_and_loss(score: str, rows: Any, tmp_path: Path) -> None:
    """The checkpoint lies in the middle of the schedule."""
    plan = (Unstructured(0.8, "second", score=score, begin=0.1, end=0.9), NM(2, 4, "last"))
    ends, losses = [], []
    for resume in (None, str(tmp_path / "checkpoint-8")):
        student = make_student(*plan)
        trainer = make_trainer(student, rows, tmp_path, save_strategy="steps", save_steps=8)
        trainer.train(resume_from_checkpoint=resume)
        ends.append(student.state_dict())
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1])
    assert losses[0] == losses[1]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_movement_is_the_sum_of_minus_weight_times_gradient(rows: Any, tmp_path: Path) -> None:
    """Plain gradient descent says what the gradients were: w' = w - lr g."""
    student = make_student(Unstructured(0.5, "second", score="movement", begin=0.9, end=1.0))
    arguments = {"optim": "sgd", "lr_scheduler_type": "constant", "weight_decay": 0.0, "learning_rate": 0.5}
    weights = [w["second.weight"].double() for w in record(student, rows, tmp_path, **arguments)]
    last = round(0.9 * STEPS)
    expected = sum(before * (after - before) / 0.5 for before, after in pairwise(weights[: last + 1]))
    student = make_student(Unstructured(0.5, "second", score="movement", begin=0.9, end=1.0))
    trainer = make_trainer(student.train(), rows, tmp_path, **arguments)
    trainer.add_callback(Stop(last))
    trainer.train()
    movement = student.masks.by_parameter["second.weight"].movement
    torch.testing.assert_close(movement.double(), expected, rtol=1e-3, atol=1e-5)


class Stop(TrainerCallback):
    """Ends training after some steps, as a kill does, with the schedule of the whole run."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step >= self.after


class Halves(nn.Module):
    """y = w . x; two inputs carry the answer, of which one starts small, and two do not."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.line.weight.copy_(torch.tensor([[1.0, 0.1, 0.8, 0.9], [-1.0, -0.1, -0.8, -0.9]]))

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.line(x)


@pytest.mark.parametrize(("score", "kept"), [("magnitude", [0, 3]), ("movement", [0, 1])])
def test_movement_keeps_what_grows_where_magnitude_keeps_what_is_large(
    score: str, kept: list[int], tmp_path: Path
) -> None:
    """After a few steps a weight that is drawn up from 0.1 is still smaller than one that is drawn down from 0.9."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 4, generator=generator)
    labels = (x[:, 0] + x[:, 1] < 0).long()
    x[:, 2:] -= 2 * (x[:, 0] + x[:, 1])[:, None]  # large weights that hurt
    rows = [{"x": row, "labels": int(label)} for row, label in zip(x, labels, strict=True)]
    student = build_student(Halves(), Plan([Unstructured(0.5, score=score, begin=0.4, end=0.5)]), {"x": x}, [{"x": x}])
    arguments = {"optim": "sgd", "per_device_train_batch_size": 64, "max_steps": 10, "learning_rate": 0.02}
    make_trainer(student.train(), rows, tmp_path, **arguments).train()
    assert [i for i in range(4) if student.masks.by_parameter["line.weight"].kept[:, i].all()] == kept


class GradientsOfMasked(TrainerCallback):
    """What of the gradients at masked weights reaches the optimizer."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.largest: list[tuple[float, float]] = []

    def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
        for name, mask in self.student.masks.by_parameter.items():
            gradient = self.student.module.get_parameter(name).grad
            assert gradient is not None
            self.largest.append((float(gradient[~mask.kept].abs().max()), float(gradient[mask.kept].abs().max())))


def test_gradients_of_masked_weights_reach_neither_clipping_nor_momentum(rows: Any, tmp_path: Path) -> None:
    student = make_student(NM(1, 4))
    watch = GradientsOfMasked(student)
    make_trainer(student.train(), rows, tmp_path, [watch], gradient_accumulation_steps=2).train()
    assert len(watch.largest) == 3 * STEPS
    assert all(masked == 0 and kept > 0 for masked, kept in watch.largest)
