"""What `recipes/recommendation.yaml` compresses: a module of our own that says who will like which film.

python examples/recommendation_teacher.py out/recommendation    # fetches 2 MB once
edgefold compress examples/recipes/recommendation.yaml --out out/recommender

MovieLens 100K (Harper and Konstan, 2015), which the package recbole (MIT) carries; GroupLens gives it for research.
"""

import sys
import zipfile
from itertools import chain, groupby
from pathlib import Path

import torch
from torch import Tensor, nn

from edgefold.checkpoints import save_student
from edgefold.packaged.downloads import Package, default_cache, fetch
from edgefold.staging import staged_folder

SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
PACKAGE = Package("recbole==1.2.1", "recbole-1.2.1-py3-none-any.whl", SHA256, ("--only-binary", ":all:"))
COLUMNS = ("user", "film", "decade", "gender", "occupation", "label")


class Recommender(nn.Module):
    """A table for each column, their sum, and a residual perceptron; edgefold was told nothing of it."""

    def __init__(self, sizes: list[int], hidden: int = 64) -> None:
        super().__init__()
        starts = (torch.randn(size, hidden) / 10 for size in sizes)
        self.tables = nn.ModuleList(nn.Embedding.from_pretrained(start, freeze=False) for start in starts)
        self.first_norm, self.last_norm, self.dropout = nn.LayerNorm(hidden), nn.LayerNorm(hidden), nn.Dropout(0.3)
        self.inner, self.outer, self.head = nn.Linear(hidden, 256), nn.Linear(256, hidden), nn.Linear(hidden, 2)

    def forward(self, user: Tensor, film: Tensor, decade: Tensor, gender: Tensor, occupation: Tensor) -> Tensor:
        columns = (user, film, decade, gender, occupation)
        x = sum(table(ids) for table, ids in zip(self.tables, columns, strict=True))
        x = x + self.outer(self.dropout(torch.relu(self.inner(self.first_norm(self.dropout(x))))))
        return self.head(self.last_norm(x))


def read_rows(wheel: Path) -> dict[str, list[tuple[int, ...]]]:
    """Of each user's ratings the last tenth for the test, the one before it for validation; the label: 4 or 5 of 5."""
    folder = zipfile.Path(wheel, "recbole/dataset_example/ml-100k/")
    texts = [folder.joinpath(f"ml-100k.{kind}").read_text("utf-8").splitlines()[1:] for kind in ("inter", "user")]
    ratings, users = ([line.split("\t") for line in text] for text in texts)
    jobs = sorted({user[3] for user in users})
    people = {user[0]: (int(user[1]) // 10, int(user[2] == "F"), jobs.index(user[3])) for user in users}
    splits: dict[str, list[tuple[int, ...]]] = {"train": [], "validation": [], "test": []}
    ratings.sort(key=lambda row: (row[0], float(row[3]), int(row[1])))
    for user, group in groupby(ratings, lambda row: row[0]):
        own = [(int(user), int(film), *people[user], int(float(rating) >= 4)) for _, film, rating, _ in group]
        for rows, (first, last) in zip(splits.values(), ((0, 8), (8, 9), (9, 10)), strict=True):
            rows += own[first * len(own) // 10 : last * len(own) // 10]
    return splits


def main(out: str, epochs: int = 8) -> None:
    torch.manual_seed(0)
    splits = read_rows(fetch(PACKAGE, default_cache()))
    model = Recommender([1 + max(ids) for ids in zip(*chain(*splits.values()), strict=True)][:-1])
    optimizer, rows = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.1), torch.tensor(splits["train"])
    for batch in chain(*(rows[torch.randperm(len(rows))].split(512) for _ in range(epochs))):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(*batch[:, :-1].T), batch[:, -1]).backward()
        optimizer.step()
    with staged_folder(out) as folder:
        for split, chosen in splits.items():
            (folder / f"{split}.csv").write_text("".join(",".join(map(str, row)) + "\n" for row in (COLUMNS, *chosen)))
        save_student(model.eval(), folder / "teacher", inputs=dict(zip(COLUMNS, rows[:2, :-1].T, strict=False)))


if __name__ == "__main__":
    main(*sys.argv[1:2]) if len(sys.argv) > 1 else sys.exit(__doc__)
