"""Trackers: none by default, those named get what is logged, others are refused with what to do."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from edgefold.errors import InputError
from edgefold.jobs.trackers import check_trackers
from edgefold.jobs.training_runs import training_arguments
from edgefold.recipes.recipe import TrainingSettings, load_recipe

pytestmark = pytest.mark.filterwarnings("ignore")


class Notes(TrainerCallback):
    """A tracker that writes into its logging_dir, as TensorBoard's does."""

    runs: ClassVar[list[str | None]] = []

    def __init__(self) -> None:
        self.logging_dir: str | None = None

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        assert self.logging_dir is not None
        Path(self.logging_dir).mkdir(parents=True, exist_ok=True)
        (Path(self.logging_dir) / f"{state.global_step}.txt").write_text(str(sorted(logs)))
        self.runs.append(args.run_name)


class Missing(TrainerCallback):
    def __init__(self) -> None:
        raise RuntimeError("it requires a package")


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, callback in (("notes", Notes), ("missing_one", Missing)):
        monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, callback)


def test_nothing_is_reported_by_default(tmp_path: Path) -> None:
    assert training_arguments(TrainingSettings(), tmp_path, False).report_to == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbord", r"training\.report_to: 'tensorbord' is no known tracker; choose among .*tensorboard"),
        ("all", r"'all' is no known tracker"),
        ("missing_one", r"missing_one is not installed; `pip install missing-one`, or leave it out"),
    ],
)
def test_trackers_that_cannot_be_used_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_trackers([name])


def test_a_tracker_gets_every_log_and_its_files_stay_with_the_student(job: Path, tmp_path: Path) -> None:
    """With gradients of several batches in one step, and bfloat16 autocast."""
    from edgefold.jobs.compression import compress

    recipe = load_recipe(job / "recipe.yaml")
    settings = {"report_to": ("notes",), "epochs": 2, "batch_size": 8, "gradient_accumulation": 3, "bf16": True}
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update=settings)})
    result = compress(recipe, tmp_path / "student")
    written = sorted(int(path.stem) for path in (result.student / "runs").iterdir())
    assert written == [2, 4]  # 48 rows, 8 in a batch, 3 batches in a step: 2 steps in an epoch
    assert "eval_accuracy" in (result.student / "runs" / "2.txt").read_text()
    assert result.metrics["fold_error"] <= 1e-5
    assert load_recipe(result.student / "recipe.yaml") == recipe
