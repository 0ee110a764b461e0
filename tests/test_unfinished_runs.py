"""What an unfinished run leaves to go on from."""

from pathlib import Path

import torch

from edgefold.jobs.training_runs import CurvePoint
from edgefold.jobs.unfinished_runs import FinishedStage, StageFolder, discard_unless_begun, last_checkpoint


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((5, '{"global_step": 5}'), (10, '{"global_st')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-15").mkdir()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-5"]


def test_a_finished_stage_is_restored_and_an_interrupted_one_is_none(tmp_path: Path) -> None:
    folder, student = StageFolder(tmp_path, "one"), torch.nn.Linear(2, 3)
    assert folder.finished() is None
    folder.checkpoints.mkdir(parents=True)
    finished = FinishedStage({"test_accuracy": 1 / 3}, [CurvePoint(4, 0.5, {"loss": 0.1 + 0.2}, "one")])
    folder.finish(student, finished)
    assert folder.finished() == finished
    assert not folder.checkpoints.exists()
    other = torch.nn.Linear(2, 3)
    folder.restore(other)
    assert torch.equal(other.weight, student.weight)
    (tmp_path / "stages" / "one" / "figures.json").unlink()
    assert folder.finished() is None


def test_only_a_folder_that_nothing_can_go_on_from_is_discarded(tmp_path: Path) -> None:
    for name, kept in (("empty", None), ("checkpoint", "checkpoints/checkpoint-5/trainer_state.json")):
        work = tmp_path / name
        work.mkdir()
        (work / "recipe.yaml").write_text("{}")
        if kept:
            (work / kept).parent.mkdir(parents=True)
            (work / kept).write_text("{}")
        discard_unless_begun(work)
        assert work.exists() == (kept is not None)
