"""Contrasts over two processes are those of one process with the joint batch: the same loss, the same gradients."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from edgefold.distillation import info_nce, labelled_contrast
from edgefold.distillation.gathering import gather_rows

LOSSES = """
from edgefold.distillation import info_nce, labelled_contrast

def losses(x, y, labels, weight):
    a = x @ weight
    return {"teacher": info_nce(a, y, 0.3), "views": info_nce(a, x[:, :3] @ weight[:3], 0.3),
            "labels": labelled_contrast(a, labels, 0.3)}
"""
WORKER = f"""{LOSSES}
import sys
import torch

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", f"file://{{folder}}/meeting", rank=rank, world_size=2)
data = torch.load(f"{{folder}}/data.pt")
found = {{}}
for name, cut in (("even", 3), ("uneven", 4)):
    own = slice(0, cut) if rank == 0 else slice(cut, 6)
    weight = data["weight"].clone().requires_grad_()
    for kind, loss in losses(data["x"][own], data["y"][own], data["labels"][own], weight).items():
        (gradient,) = torch.autograd.grad(loss, weight, retain_graph=True)
        both = torch.cat([loss.detach().reshape(1), gradient.flatten()])
        torch.distributed.all_reduce(both)  # DistributedDataParallel's mean
        found[f"{{name}}-{{kind}}"] = both / 2
if rank == 0:
    torch.save(found, f"{{folder}}/found.pt")
torch.distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The data, and what two processes made of them."""
    folder: Path = tmp_path_factory.mktemp("processes")
    generator = torch.Generator().manual_seed(0)
    data = {
        "x": torch.randn(6, 5, generator=generator, dtype=torch.float64),
        "y": torch.randn(6, 4, generator=generator, dtype=torch.float64),
        "labels": torch.tensor([0, 1, 0, 1, 1, 2]),
        "weight": torch.randn(5, 4, generator=generator, dtype=torch.float64),
    }
    torch.save(data, folder / "data.pt")
    running = [
        subprocess.Popen([sys.executable, "-c", WORKER, str(rank), str(folder)], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=300)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(errors)
    return data, torch.load(folder / "found.pt")


@pytest.mark.parametrize("sizes", ["even", "uneven"])
@pytest.mark.parametrize("kind", ["teacher", "views", "labels"])
def test_two_processes_are_one_with_the_joint_batch(kind: str, sizes: str, found: Any) -> None:
    data, together = found
    scope: dict[str, Any] = {}
    exec(LOSSES, scope)
    weight = data["weight"].clone().requires_grad_()
    loss = scope["losses"](data["x"], data["y"], data["labels"], weight)[kind]
    (gradient,) = torch.autograd.grad(loss, weight)
    expected = torch.cat([loss.detach().reshape(1), gradient.flatten()])
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(together[f"{sizes}-{kind}"], expected, rtol=1e-12, atol=1e-12)


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.randn(3, 2)
    gathered, start = gather_rows(rows)
    assert gathered is rows
    assert start == 0
    assert torch.isfinite(info_nce(rows, rows, 0.1) + labelled_contrast(rows, torch.zeros(3), 0.1))
