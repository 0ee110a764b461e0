"""Gates in training: the target is hit, rates are their own, and a resumed run equals an uninterrupted one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import ConstantLR
from transformers import TrainerCallback, TrainingArguments

from edgefold.dimensions import trace
from edgefold.distillation import Objective
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.gates.schedule import give_own_rates
from edgefold.gates.settings import Gates
from edgefold.plans import Plan
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.training import CompressionTrainer

pytestmark = pytest.mark.filterwarnings("ignore")


class Net(nn.Module):
    """x: (batch, 8) -> (batch, 3); the last six of 8 inputs say nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last = nn.Linear(8, 32), nn.Dropout(0.1), nn.Linear(32, 3)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.last(self.drop(torch.tanh(self.first(x))))


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 8, generator=generator)
    return [{"x": row, "labels": int((row[0] > 0).long() + (row[1] > 0).long())} for row in x]


def make_student(rows: Any, **fields: Any) -> Student:
    torch.manual_seed(0)
    inputs = {"x": torch.stack([row["x"] for row in rows])}
    net = Net().eval()
    (name,) = (d.name for d in trace(net, inputs) if d.kind == "permutation")
    settings = {"keep": 0.4, "learning_rate": 0.15, "multiplier_rate": 1.0, "multiple_of": 1, **fields}
    return build_student(net, Plan([]), inputs, [inputs], gates=Gates(name, **settings))


def make_trainer(
    student: Student, rows: Any, out: Path, callbacks: Any = (), optimizers: Any = (None, None), **arguments: Any
) -> CompressionTrainer:
    settings = {
        "max_steps": 120,
        "per_device_train_batch_size": 16,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": True,
        **arguments,
    }
    return CompressionTrainer(
        student.train(),
        objective=Objective(task=1.0, logits=0.0, hidden=0.0),
        args=TrainingArguments(str(out), **settings),
        train_dataset=rows,
        callbacks=list(callbacks),
        optimizers=optimizers,
    )


class Recorder(TrainerCallback):
    """The expected share and the rates of every group at the beginning of each step."""

    def __init__(self, student: Student) -> None:
        self.student = student
        self.shares: list[float] = []
        self.rates: list[list[float]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        assert self.student.gates is not None
        self.shares.append(float(self.student.gates.expected_share().detach()))
        self.rates.append([group["lr"] for group in kwargs["optimizer"].param_groups])


def test_the_expected_size_comes_to_the_target_and_the_fold_has_it(rows: Any, tmp_path: Path) -> None:
    student = make_student(rows, learning_rate=0.05, multiplier_rate=0.5)
    recorder = Recorder(student)
    trainer = make_trainer(student, rows, tmp_path, [recorder], max_steps=400)
    trainer.train()
    settled = round(0.7 * 400)
    assert recorder.shares[0] == pytest.approx(0.99, abs=1e-3)
    assert recorder.shares[settled - 1] == pytest.approx(0.4, abs=0.06)
    plain: Any = fold(student.eval(), multiple_of=1)
    assert student.gates is not None
    kept = plain.first.out_features
    assert kept == int(0.4 * 32) == student.gates.open_counts()[next(iter(student.gates.places.sizes))]
    assert sum(p.numel() for p in plain.parameters()) == kept * (8 + 1 + 3) + 3
    x = torch.stack([row["x"] for row in rows])
    torch.testing.assert_close(plain(x), student(x), rtol=1e-5, atol=1e-6)  # float32
    logged = [entry["gates_share"] for entry in trainer.state.log_history if "gates_share" in entry]
    assert logged[-1] == student.gates.kept_share() == kept / 32
    assert any("loss_gates" in entry for entry in trainer.state.log_history)


def test_gates_have_rates_of_their_own_until_they_settle(rows: Any, tmp_path: Path) -> None:
    student = make_student(rows, settle=0.5)
    recorder = Recorder(student)
    trainer = make_trainer(student, rows, tmp_path, max_steps=20, warmup_steps=5)
    trainer.add_callback(recorder)  # after the gates' own, so that it sees what is in force
    trainer.train()
    assert trainer.optimizer is not None
    assert [len(group["params"]) for group in trainer.optimizer.param_groups[2:]] == [1, 1]
    assert [group["weight_decay"] for group in trainer.optimizer.param_groups] == [0.1, 0.0, 0.0, 0.0]
    assert [rates[2:] for rates in recorder.rates] == [[0.15, 1.0]] * 10 + [[0.0, 0.0]] * 10
    assert recorder.shares[-1] == recorder.shares[10]
    assert recorder.rates[4][0] < 0.01


@pytest.mark.parametrize("stop", [8, 16])
def test_a_resumed_run_equals_an_uninterrupted_one(stop: int, rows: Any, tmp_path: Path) -> None:
    """Before the gates settle, and after; with dropout, whose generator the draws must leave alone."""
    ends = []
    for resume in (None, str(tmp_path / f"checkpoint-{stop}")):
        student = make_student(rows, settle=0.6)
        trainer = make_trainer(student, rows, tmp_path, max_steps=20, save_strategy="steps", save_steps=stop)
        trainer.train(resume_from_checkpoint=resume)
        ends.append(student.state_dict())
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


def test_an_optimizer_with_a_schedule_has_groups_for_the_gates_or_is_refused(rows: Any, tmp_path: Path) -> None:
    def own(student: Student) -> AdamW:
        return AdamW(student.parameters(), lr=0.01)

    student = make_student(rows)
    assert student.gates is not None
    optimizer = own(student)
    with pytest.raises(
        InputError, match=r"Call edgefold\.gates\.schedule\.give_own_rates\(optimizer, student\.gates\)"
    ):
        make_trainer(student, rows, tmp_path, optimizers=(optimizer, ConstantLR(optimizer)), max_steps=2).train()
    optimizer = own(student)
    give_own_rates(optimizer, student.gates)
    make_trainer(student, rows, tmp_path, optimizers=(optimizer, ConstantLR(optimizer)), max_steps=2).train()
    assert [len(group["params"]) for group in optimizer.param_groups] == [4, 1, 1]


@pytest.mark.parametrize("optimizer", ["adamw_torch", "sgd"])
def test_gradient_accumulation_draws_once_a_step(optimizer: str, rows: Any, tmp_path: Path) -> None:
    student = make_student(rows)
    trainer = make_trainer(student, rows, tmp_path, max_steps=10, gradient_accumulation_steps=4, optim=optimizer)
    trainer.train()
    assert student.gates is not None
    assert student.gates.is_settled
    assert student.gates.kept_share() <= 0.4
