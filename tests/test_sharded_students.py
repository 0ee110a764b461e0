"""A student sharded over two processes by FSDP2 (`fully_shard`) trains as the whole one does, in every mode."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from two_processes import run_two

from edgefold.folding import fold

TRAIN = """
import torch

def train(student, batch, steps=3):
    trained = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01)
    losses = []
    for _ in range(steps):
        loss = student(**batch).logits.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses
"""
WORKER = f"""{TRAIN}
import sys
import torch.distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from edgefold.errors import InputError
from edgefold.folding import fold

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank, mesh = torch.distributed.get_rank(), init_device_mesh("cpu", (2,))
for mode in sys.argv[2:]:
    student, batch = torch.load(f"{{sys.argv[1]}}/{{mode}}.pt", weights_only=False)
    if mode == "weights":
        for layer in student.module.bert.encoder.layer:
            fully_shard(layer, mesh=mesh)
    fully_shard(student, mesh=mesh)
    assert all(isinstance(parameter, DTensor) for parameter in student.parameters())
    losses = torch.tensor(train(student, {{name: value[rank::2] for name, value in batch.items()}}))
    torch.distributed.all_reduce(losses)
    try:
        fold(student)
        refusal = "it was folded"
    except InputError as error:
        refusal = str(error)
    whole = get_model_state_dict(student, options=StateDictOptions(full_state_dict=True))
    if rank == 0:
        torch.save((losses / 2, whole, refusal), f"{{sys.argv[1]}}/{{mode}}-found.pt")
torch.distributed.destroy_process_group()
"""
MODES = ("weights", "all", "projection")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, make_bert_student: Callable[..., Any], text_batch: Callable[..., Any]
) -> Path:
    """The folder with what goes into each mode and what two processes made of it."""
    folder = tmp_path_factory.mktemp("sharded")
    for mode in MODES:
        torch.save((make_bert_student(mode), text_batch(4, 9)), folder / f"{mode}.pt")
    run_two(WORKER, folder, *MODES)
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", MODES)
def test_a_sharded_student_trains_as_a_whole_one(mode: str, trained: Path) -> None:
    student, batch = torch.load(trained / f"{mode}.pt", weights_only=False)
    before = copy.deepcopy(student)
    scope: dict[str, Any] = {}
    exec(TRAIN, scope)
    losses = scope["train"](student, batch)
    sharded_losses, whole, refusal = torch.load(trained / f"{mode}-found.pt", weights_only=False)
    assert sharded_losses.tolist() == pytest.approx(losses, rel=1e-5)
    assert whole.keys() == student.state_dict().keys()
    gathered = copy.deepcopy(before)
    gathered.load_state_dict(whole)
    assert any(not torch.equal(value, before.state_dict()[name]) for name, value in whole.items())
    assert "sharded over processes" in refusal
    assert "full_state_dict" in refusal
    with torch.no_grad():
        found, wanted = fold(gathered)(**batch).logits, fold(student)(**batch).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
