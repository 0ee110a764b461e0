"""The hidden folder of an unfinished run beside its output: the recipe, and the checkpoints to go on from."""

import json
import shutil
from pathlib import Path

from edgefold.errors import InputError
from edgefold.recipes import Recipe, dump_recipe, load_recipe


def check_work_folder(out: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Path:
    """Where an unfinished run keeps its recipe and checkpoints.

    Raises:
        InputError: there is none to resume, it has another recipe, or there is one that was not asked for.
    """
    work = out.with_name(f".{out.name}.unfinished")
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


def last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint; the Trainer writes trainer_state.json last, so a half-written one lacks it."""
    complete = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            complete[int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])] = checkpoint
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    return str(complete[max(complete)]) if complete else None
