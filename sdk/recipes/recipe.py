"""Recipes: one YAML file that says which teacher to compress, on which data, under which plan, and how to train."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from edgefold.errors import InputError
from edgefold.recipes.data import DATA, SplitData
from edgefold.recipes.errors import describe_errors
from edgefold.recipes.plan import PlanStep
from edgefold.recipes.safe_yaml import YamlDocument, parse_yaml
from edgefold.recipes.stages import DEFAULT_TASK, Job, Stage, complete_stages
from edgefold.recipes.training import TrainingSettings, VocabularySettings
from edgefold.staging import staged_file

__all__ = ["DEFAULT_TASK", "Recipe", "TrainingSettings", "check_recipe", "dump_recipe", "load_recipe"]

COMPOSING = ("projection", "all")
"""Modes of training whose weights are composed from the teacher's."""


class Recipe(Job):
    """A whole compression: one round of training, or several, one after the other."""

    plan: Annotated[tuple[PlanStep, ...], Field(min_length=1)]
    vocabulary: VocabularySettings | None = None
    """Leave it out to keep the teacher's vocabulary."""
    stages: tuple[Stage, ...] = ()
    """Each begins with the student of the one before, and with an optimizer and a schedule of its own."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        return complete_stages(data)

    @model_validator(mode="after")
    def _stages_go_on(self) -> "Recipe":
        names = [stage.name for stage in self.stages]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"stages: two are named {twice}; give each a name of its own")
        for before, stage in zip(self.stages, self.stages[1:], strict=False):
            mode = stage.training.mode
            if mode in COMPOSING and before.training.mode not in COMPOSING and not stage.plan:
                raise ValueError(
                    f"stages: {stage.name} has the mode {mode}, for which {before.name} leaves no projected weights: "
                    f"it trained the small weights themselves; give {stage.name} the mode weights, or {before.name} "
                    "one of projection and all"
                )
        return self

    @model_validator(mode="after")
    def _gates_come_last(self) -> "Recipe":
        for stage in self.stages:
            if stage.gates is None:
                continue
            if stage is not self.stages[-1]:
                raise ValueError(
                    f"stages: {stage.name} has gates and is not the last; what they close is cut out at the end of the "
                    f"job: give the gates to {self.stages[-1].name}"
                )
            if not stage.plan:
                raise ValueError(
                    f"stages: {stage.name} has gates and no plan; they are put on the student that a plan makes: give "
                    "it one, such as select: {dimension: ffn, size: ...} at the size that there is"
                )
        return self

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The rounds of training in their order; the recipe itself where it has no stages."""
        return self.stages or (self,)

    def check_paths(self) -> None:
        """Refuse, before any work is done, a recipe whose teachers or data are not there.

        Raises:
            InputError: naming the key and the path.
        """
        for index, job in enumerate(self.jobs):
            job.check_own_paths(f"stages[{index}]." if self.stages else "")


def load_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe; relative paths in it start at its own folder.

    Raises:
        InputError: no such file, bad YAML (with its line), an unknown key (with the nearest known one), a bad value.
    """
    file = Path(path)
    document = parse_yaml(_read_text(file), str(file))
    return check_recipe(document.data, folder=file.absolute().parent, source=str(file), document=document)


def check_recipe(
    data: Any, *, folder: Path | None = None, source: str = "the recipe", document: YamlDocument | None = None
) -> Recipe:
    """Make a Recipe of plain data.

    Raises:
        InputError: every unknown key and bad value, each with its dotted path.
    """
    if not isinstance(data, dict):
        raise InputError(
            f"{source} holds {'nothing' if data is None else type(data).__name__}; a recipe is a mapping of keys."
        )
    try:
        return Recipe.model_validate(data, context={"folder": folder or Path.cwd()})
    except ValidationError as error:
        forms = {f"{place}data": _form(part) for place, part in _parts(complete_stages(data))}
        raise InputError(describe_errors(error, Recipe, source, document, forms)) from None


def dump_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write the resolved recipe: every default spelled out, every path absolute; loading it gives the same recipe."""
    data = recipe.model_dump(mode="json", exclude_none=True)
    data["stages"] = [{"name": stage["name"], **stage} for stage in data["stages"]]
    if not recipe.stages:
        del data["stages"]
    with staged_file(path) as staging:
        staging.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _parts(data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The recipe and its stages, each with what stands before its keys."""
    yield "", data
    stages = data.get("stages")
    yield from ((f"stages[{index}].", stage) for index, stage in enumerate(stages if isinstance(stages, list) else ()))


def _form(part: Any) -> type[SplitData]:
    """The form of the data of its task; of the default task where that is not known."""
    task = part.get("task", DEFAULT_TASK) if isinstance(part, dict) else DEFAULT_TASK
    return DATA.get(str(task), DATA[DEFAULT_TASK])


def _read_text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"There is no recipe {file}{' (it is a folder)' if file.is_dir() else ''}; give a YAML file.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"The recipe {file} cannot be read as UTF-8 text: {error}.") from None
