"""What `recipes/tensors.yaml` compresses: a module of our own, and its data as arrays by the names of its inputs.

python examples/tensor_teacher.py out/tensors           # scikit-learn's handwritten digits, 8 x 8: nothing is fetched
edgefold compress examples/recipes/tensors.yaml --out out/tensor-student
"""

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from edgefold.checkpoints import save_student
from edgefold.staging import staged_folder

SPLITS = {"test": slice(0, 400), "validation": slice(400, 600), "train": slice(600, None)}


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, 4 * width, 3, padding=1), nn.BatchNorm2d(4 * width)
        self.back = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(torch.relu(self.norm(self.conv(x))))


class Digits(nn.Module):
    """Residual convolutions; edgefold was told nothing of it."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.first, self.layers = nn.Conv2d(1, width, 3, padding=1), nn.Sequential(*(Layer(width) for _ in range(3)))
        self.head = nn.Linear(width * 4, 10)

    def forward(self, ink: Tensor) -> Tensor:
        """(rows, 8, 8) of 0 to 1 -> (rows, 10)"""
        return self.head(nn.functional.max_pool2d(self.layers(self.first(ink[:, None])), 4).flatten(1))


def main(out: str, epochs: int = 8) -> None:
    torch.manual_seed(0)
    digits = load_digits()
    ink, labels = (digits.images / 16).astype(np.float32), digits.target.astype(np.int64)
    rows, classes = (torch.from_numpy(array[SPLITS["train"]]) for array in (ink, labels))
    model = Digits()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    for some in (some for _ in range(epochs) for some in torch.randperm(len(rows)).split(32)):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows[some]), classes[some]).backward()
        optimizer.step()
    with staged_folder(out) as folder:
        for split, part in SPLITS.items():
            np.savez(folder / f"{split}.npz", ink=ink[part], labels=labels[part])
        save_student(model.eval(), folder / "teacher", inputs={"ink": rows[:2]})
    print(f"teacher: {Path(out) / 'teacher'}; `edgefold inspect` lists the names that a plan speaks of")


if __name__ == "__main__":
    main(*sys.argv[1:2]) if len(sys.argv) > 1 else sys.exit(__doc__)
