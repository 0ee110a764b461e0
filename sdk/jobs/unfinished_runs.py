"""The hidden folder of an unfinished run beside its output: the recipe, finished stages, checkpoints to go on from."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import nn

from edgefold.checkpoints import MANIFEST
from edgefold.errors import InputError
from edgefold.jobs.training_runs import CurvePoint
from edgefold.recipes.recipe import Recipe, dump_recipe, load_recipe
from edgefold.staging import staged_file


@dataclass(frozen=True)
class FinishedStage:
    """What was measured in a stage whose student is kept."""

    metrics: dict[str, float]
    curve: list[CurvePoint]


@dataclass(frozen=True)
class StageFolder:
    """The place of one stage in the folder of an unfinished run."""

    work: Path
    stage: str = ""
    """Its name; empty where the recipe has no stages."""

    @property
    def _root(self) -> Path:
        return self.work / "stages" / self.stage if self.stage else self.work

    @property
    def checkpoints(self) -> Path:
        return self._root / "checkpoints"

    @property
    def logs(self) -> Path:
        """Of trackers that write files."""
        return self.work / "runs" / self.stage if self.stage else self.work / "runs"

    def last_checkpoint(self) -> str | None:
        return last_checkpoint(self.checkpoints)

    def finish(self, student: nn.Module, finished: FinishedStage) -> None:
        """Keep the trained student in place of its checkpoints; its figures, written last, say that it is whole."""
        self._root.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous() for name, tensor in student.state_dict().items()}
        with staged_file(self._root / "student.safetensors") as file:
            save_file(state, file)
        with staged_file(self._root / "figures.json") as file:
            file.write_text(json.dumps(dataclasses.asdict(finished)))
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def finished(self) -> FinishedStage | None:
        """What `finish` kept; None where the stage is not over."""
        figures = self._root / "figures.json"
        if not figures.is_file():
            return None
        content = json.loads(figures.read_text())
        return FinishedStage(content["metrics"], [CurvePoint(**point) for point in content["curve"]])

    def restore(self, student: nn.Module) -> None:
        """Load, in place, the weights that `finish` kept."""
        student.load_state_dict(load_file(self._root / "student.safetensors"))


def work_folder(out: Path) -> Path:
    """Where an unfinished run of `out` lies."""
    return out.with_name(f".{out.name}.unfinished")


def refuse_finished(out: Path, work: Path) -> None:
    """Refuse to resume what has ended.

    Raises:
        InputError: a student stands in `out`, and no unfinished run beside it.
    """
    if (out / MANIFEST).is_file() and not work.exists():
        raise InputError(
            f"{out} holds a finished student: there is nothing to resume. To make it anew, ask for overwriting "
            "(--overwrite) without --resume."
        )


def check_work_folder(out: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Path:
    """Where an unfinished run keeps its recipe and checkpoints.

    Raises:
        InputError: there is none to resume, it has another recipe, or there is one that was not asked for.
    """
    work = work_folder(out)
    stored = work / "recipe.yaml"
    if resume:
        if not stored.is_file():
            raise InputError(
                f"There is no unfinished run of {out} to resume ({work} has no recipe); start it without --resume."
            )
        if load_recipe(stored) != recipe:
            raise InputError(
                f"The unfinished run in {work} has another recipe ({stored}); resume with that one or use --overwrite."
            )
    elif work.exists() and not overwrite:
        raise InputError(
            f"An unfinished run of {out} lies in {work}; go on with --resume, or start anew with --overwrite."
        )
    return work


def start_work_folder(work: Path, recipe: Recipe) -> None:
    """Empty but for the recipe; made when the data have been read, so that bad input leaves nothing behind."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    dump_recipe(recipe, work / "recipe.yaml")


def discard_unless_begun(work: Path) -> None:
    """Remove a folder that no run could go on from, so that a refused recipe can be mended and given again."""
    if not (any(work.rglob("trainer_state.json")) or any(work.rglob("figures.json"))):
        shutil.rmtree(work, ignore_errors=True)


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint; the Trainer writes trainer_state.json last, so a half-written one lacks it."""
    complete = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            complete[int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])] = checkpoint
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    return str(complete[max(complete)]) if complete else None
