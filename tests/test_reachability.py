"""Two processes under DistributedDataParallel are one process with the joint batch, in every mode of training."""

import copy
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from two_processes import run_two

from edgefold.reachability import keep_reachable
from edgefold.students import MODES, Student

CASES = [
    f"{mode}-{'search' if search else 'all'}-{'hidden' if hidden else 'outputs'}-{'held' if held else 'each'}"
    for mode, search, hidden, held in product(MODES, (False, True), (False, True), (False, True))
]
"""The mode; whether unused parameters are searched for; whether the loss uses a projection by itself; whether the
batch comes in two pieces with gradients held."""
TRAIN = """
from contextlib import nullcontext
import torch

def train(model, student, batches, target, case):
    optimizer = torch.optim.SGD([p for p in student.parameters() if p.requires_grad], lr=0.05)
    for batch in batches:
        rows = len(batch["input_ids"])
        pieces = [slice(0, 1), slice(1, rows)] if "held" in case else [slice(0, rows)]
        for piece in pieces:
            last = piece is pieces[-1]
            student.hold_gradients(not last)
            with nullcontext() if last or model is student else model.no_sync():
                logits = model(**{name: value[piece] for name, value in batch.items()}).logits
                loss = logits.square().sum() / rows
                if last and "hidden" in case:
                    loss = loss + (target @ student.projection("hidden")).square().mean()
                loss.backward()
        optimizer.step()
        optimizer.zero_grad()
"""
WORKER = f"""{TRAIN}
import sys
from torch.nn.parallel import DistributedDataParallel

folder, cases = sys.argv[1], sys.argv[2:]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
batches, target = torch.load(f"{{folder}}/data.pt")
halves = [{{name: value[2 * rank : 2 * rank + 2] for name, value in batch.items()}} for batch in batches]
for case in cases:
    student = torch.load(f"{{folder}}/{{case.split('-')[0]}}.pt", weights_only=False)
    if rank:
        with torch.no_grad():
            [parameter.add_(1) for parameter in student.parameters()]  # the first process's values count
    train(DistributedDataParallel(student, find_unused_parameters="search" in case), student, halves, target, case)
    if rank == 0:
        torch.save(student.state_dict(), f"{{folder}}/{{case}}-state.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_bert_student: Callable[..., Any], text_batch: Callable[..., Any]
) -> Path:
    """The folder with the students, the data, and what two processes made of each case."""
    folder = tmp_path_factory.mktemp("processes")
    for mode in MODES:
        torch.save(make_bert_student(mode).train(), folder / f"{mode}.pt")
    batches, target = [text_batch(4, 9, seed) for seed in range(3)], torch.randn(5, 24, dtype=torch.float64)
    torch.save((batches, target), folder / "data.pt")
    run_two(WORKER, folder, *CASES)
    return folder


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one_with_the_joint_batch(case: str, trained: Path) -> None:
    student: Student = torch.load(trained / f"{case.split('-')[0]}.pt", weights_only=False)
    batches, target = torch.load(trained / "data.pt")
    before = copy.deepcopy(student.state_dict())
    scope: dict[str, Any] = {}
    exec(TRAIN, scope)
    scope["train"](student, student, batches, target, case)
    together: dict[str, Tensor] = torch.load(trained / f"{case}-state.pt")
    for name, value in student.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=1e-10, atol=1e-10)
    assert any(not torch.equal(value, together[name]) for name, value in before.items())


def test_outputs_are_left_alone_outside_a_process_group() -> None:
    outputs = {"logits": torch.randn(2, 2, requires_grad=True)}
    assert keep_reachable(outputs, [torch.randn(2, requires_grad=True)]) is outputs
