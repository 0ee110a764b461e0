"""CompressionTrainer in two processes is CompressionTrainer in one with the joint batch: same losses, same weights."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import run_two

TRAIN = """
from transformers import TrainingArguments
from edgefold.distillation import Contrast, Objective
from edgefold.training import CompressionTrainer

POSITIVES = {"weights": "teacher", "all": "labels", "elsewhere": "teacher"}

def train(case, student, teacher, rows, folder, batch):
    objective = Objective(task=0.5, logits=0.5, hidden=0.0, contrastive=1.0, contrast=Contrast(POSITIVES[case]))
    args = TrainingArguments(
        folder, use_cpu=True, max_steps=3, per_device_train_batch_size=batch, learning_rate=0.1, optim="sgd",
        max_grad_norm=0.0, lr_scheduler_type="constant", logging_steps=1, save_strategy="no", report_to=[],
        disable_tqdm=True, remove_unused_columns=False,
    )
    trainer = CompressionTrainer(student.train(), teacher=teacher, objective=objective, args=args, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    state = {**student.state_dict(), **trainer.distillation.maps.state_dict()}
    return losses, {name: value.clone() for name, value in state.items()}
"""
WORKER = f"""{TRAIN}
import sys
import torch

folder, cases = sys.argv[1], sys.argv[2:]
torch.set_num_threads(1)
for case in cases:
    torch.manual_seed(5)
    student, teacher, rows = torch.load(f"{{folder}}/{{case}}.pt", weights_only=False)
    found = train(case, student, teacher, rows, folder, 2)
    if torch.distributed.get_rank() == 0:
        torch.save(found, f"{{folder}}/{{case}}-found.pt")
torch.distributed.destroy_process_group()
"""
CASES = ("weights", "all", "elsewhere")
"""The mode of a built student, or a student made elsewhere, with learned maps."""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    make_bert: Callable[..., Any],
    make_bert_student: Callable[..., Any],
    text_batch: Callable[..., Any],
) -> Path:
    """The folder with what goes into each case and what two processes made of it."""
    folder = tmp_path_factory.mktemp("trainers")
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    teacher, whole = make_bert(**quiet), text_batch(12, 9)
    rows = [{**{name: value[i] for name, value in whole.items()}, "labels": i % 2} for i in range(12)]
    for case in CASES:
        narrow = make_bert(hidden_size=16, num_attention_heads=2, num_hidden_layers=1, **quiet)
        student = narrow if case == "elsewhere" else make_bert_student(case)
        torch.save((student, teacher, rows), folder / f"{case}.pt")
    run_two(WORKER, folder, *CASES)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_as_one_with_the_joint_batch(case: str, trained: Path) -> None:
    torch.manual_seed(5)
    student, teacher, rows = torch.load(trained / f"{case}.pt", weights_only=False)
    before = copy.deepcopy(student.state_dict())
    scope: dict[str, Any] = {}
    exec(TRAIN, scope)
    losses, state = scope["train"](case, student, teacher, rows, str(trained), 4)
    together_losses, together = torch.load(trained / f"{case}-found.pt", weights_only=False)
    assert together_losses == pytest.approx(losses, rel=1e-4)  # logged with four digits
    assert together.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(together[name], value, rtol=1e-6, atol=1e-7)  # the sum of terms is in float32
    moved = [name for name, value in before.items() if not torch.equal(value, state[name])]
    assert len(moved) > 10
