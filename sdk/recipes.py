"""Recipes: one YAML file that says which teacher to compress, on which data, under which plan, and how to train."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from edgefold.errors import InputError
from edgefold.penalty_settings import PenaltyEntry
from edgefold.plans import Plan
from edgefold.recipe_data import DATA, DataSettings
from edgefold.recipe_errors import describe_errors
from edgefold.recipe_objective import ObjectiveSettings
from edgefold.recipe_plan import PlanStep
from edgefold.recipe_sections import Name, RecipePath, Section
from edgefold.recipe_training import CalibrationSettings, TeacherCacheSettings, TrainingSettings, VocabularySettings
from edgefold.recipe_yaml import YamlDocument, parse_yaml
from edgefold.staging import staged_file

if TYPE_CHECKING:
    from edgefold.penalties import Penalty

__all__ = ["DEFAULT_TASK", "Recipe", "TrainingSettings", "check_recipe", "dump_recipe", "load_recipe"]

DEFAULT_TASK = "text-classification"


class Recipe(Section):
    """A whole compression job; paths are absolute once loaded."""

    teacher: RecipePath
    """Folder of a Hugging Face checkpoint, or of what `save_student` wrote."""
    task: Name = DEFAULT_TASK
    data: DataSettings
    """In the form that `task` asks for."""
    plan: Annotated[tuple[PlanStep, ...], Field(min_length=1)]
    objective: ObjectiveSettings = ObjectiveSettings()
    penalties: tuple[PenaltyEntry, ...] = ()
    """Beside the objective: further terms of the loss, and proximal steps after the optimizer's."""
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    teacher_cache: TeacherCacheSettings = TeacherCacheSettings()
    vocabulary: VocabularySettings | None = None
    """Leave it out to keep the teacher's vocabulary."""

    @field_validator("task")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in DATA:
            raise ValueError(f"{value!r} is no known task; choose one of {', '.join(DATA)}")
        return value

    @field_validator("data", mode="wrap")
    @classmethod
    def _of_task(cls, value: Any, check: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
        """Data of the task's form; left as they are where the task itself is refused."""
        form = DATA.get(info.data.get("task", ""))
        return check(form.model_validate(value, context=info.context)) if form else value

    def to_plan(self) -> Plan:
        """The plan that `build_student` takes."""
        return Plan([step for entry in self.plan if (step := entry.to_step())])

    def to_penalties(self) -> "tuple[Penalty, ...]":
        """The penalties that an Objective takes; imports torch."""
        return tuple(entry.to_penalty() for entry in self.penalties)

    def check_paths(self) -> None:
        """Refuse, before any work is done, a recipe whose teacher or data are not there.

        Raises:
            InputError: naming the key and the path.
        """
        if not any((self.teacher / name).is_file() for name in ("config.json", "edgefold.json")):
            what = "has no config.json" if self.teacher.is_dir() else "is not a folder"
            raise InputError(
                f"teacher: {self.teacher} {what}; give the folder of a Hugging Face checkpoint, or one that "
                "save_student wrote."
            )
        self.data.check_paths()


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
        forms = {"data": DATA.get(str(data.get("task", DEFAULT_TASK)), DATA[DEFAULT_TASK])}
        raise InputError(describe_errors(error, Recipe, source, document, forms)) from None


def dump_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write the resolved recipe: every default spelled out, every path absolute; loading it gives the same recipe."""
    data = recipe.model_dump(mode="json", exclude_none=True)
    with staged_file(path) as staging:
        staging.write_text(yaml.safe_dump(data, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _read_text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"There is no recipe {file}{' (it is a folder)' if file.is_dir() else ''}; give a YAML file.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"The recipe {file} cannot be read as UTF-8 text: {error}.") from None
