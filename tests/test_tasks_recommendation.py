"""Recommendation: metrics by their definitions, and the whole job on a plain module that was saved with its inputs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from task_jobs import TRAINING, interrupt_and_resume
from torch import Tensor, nn

from edgefold.checkpoints import load_student, save_student
from edgefold.errors import InputError
from edgefold.jobs.compression import compress
from edgefold.recipes.recipe import load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")


class Recommender(nn.Module):
    """Two tables and a perceptron; its forward takes no labels."""

    def __init__(self, labels: int = 2) -> None:
        super().__init__()
        self.user, self.item = nn.Embedding(12, 16), nn.Embedding(9, 16)
        self.first, self.out = nn.Linear(32, 24), nn.Linear(24, labels)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return self.out(torch.relu(self.first(torch.cat([self.user(user), self.item(item)], -1))))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    ids = torch.arange(3)
    save_student(Recommender(), tmp_path / "teacher", inputs={"user": ids, "item": ids})
    for split, count in (("train", 40), ("validation", 12), ("test", 12)):
        rows = [f"{i * 5 % 12},{i * 7 % 9},{i % 2}" for i in range(count)]
        (tmp_path / f"{split}.csv").write_text("\n".join(["user,item,label", *rows]) + "\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "teacher: teacher\ntask: recommendation\n"
        "data: {train: train.csv, validation: validation.csv, test: test.csv}\n"
        f"plan: [select: {{dimension: units.0, size: 8}}]\nobjective: {{hidden: 0}}\n{TRAINING}"
    )
    return path


def test_a_stopped_job_resumes_and_ends_in_a_folder_that_opens_alone(recipe: Path, tmp_path: Path) -> None:
    result = interrupt_and_resume(recipe, tmp_path / "student")
    for split in ("untrained", "validation", "test", "teacher_test"):
        assert 0 <= result.metrics[f"{split}_accuracy"] <= 1
        assert 0 <= result.metrics[f"{split}_area_under_curve"] <= 1
    assert result.dimensions == [{"name": "units.0", "kind": "permutation", "teacher_size": 24, "student_size": 8}]
    student: Any = load_student(result.student)
    assert sum(p.numel() for p in student.parameters()) == sum(p.numel() for p in Recommender().parameters()) - 16 * (
        32 + 1 + 2
    )
    rows = [(i * 5 % 12, i * 7 % 9, i % 2) for i in range(12)]
    users, items, labels = (torch.tensor(values) for values in zip(*rows, strict=True))
    with torch.no_grad():
        right = (student(user=users, item=items).argmax(-1) == labels).float().mean()
    assert result.metrics["test_accuracy"] == pytest.approx(float(right))


def test_refusals(recipe: Path, tmp_path: Path) -> None:
    job = load_recipe(recipe)
    test = tmp_path / "test.csv"
    test.write_text("user,item,label\n11,9,0\n")
    with pytest.raises(InputError, match=r"test\.csv: the teacher does not take the largest ids, user 11, item 9: "):
        compress(job, tmp_path / "student")
    test.write_text("user,item,label\n11,8,2\n")
    with pytest.raises(InputError, match=r"test\.csv, line 2: unknown label '2'; known are '0', '1'"):
        compress(job, tmp_path / "student")
    train = tmp_path / "train.csv"
    train.write_text(train.read_text() + "1,1,2\n")
    with pytest.raises(InputError, match=r"have 3 labels; for 2 rows the teacher returns \(2, 2\), not \(2, 3\)"):
        compress(job, tmp_path / "student")
    save_student(Recommender(), tmp_path / "bare")
    bare = job.model_copy(update={"teacher": tmp_path / "bare"})
    with pytest.raises(InputError, match="which is no Hugging Face model and was saved without inputs"):
        compress(bare, tmp_path / "student")
