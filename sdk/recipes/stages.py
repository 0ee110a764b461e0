"""Job and Stage: one round of training in a recipe; a recipe is one itself, or a list of stages under its `stages:`."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, ValidatorFunctionWrapHandler, field_validator, model_validator

from edgefold.errors import InputError
from edgefold.gates.settings import Gates
from edgefold.plans import Plan
from edgefold.recipes.data import DATA, DataSettings
from edgefold.recipes.gates import GateSettings
from edgefold.recipes.objective import ObjectiveSettings
from edgefold.recipes.penalties import PenaltyEntry
from edgefold.recipes.plan import PlanStep
from edgefold.recipes.sections import Name, RecipePath, Section
from edgefold.recipes.training import CalibrationSettings, TeacherCacheSettings, TrainingSettings

if TYPE_CHECKING:
    from edgefold.penalties import Penalty

DEFAULT_TASK = "text-classification"
VALUED = ("text-regression", "tensor-regression")
"""Tasks whose labels are numbers, which have no logits: the numbers themselves are matched."""
OWN_WEIGHTS: dict[str, dict[str, float]] = {
    "text-regression": {"logits": 0.0, "outputs": 0.7},
    "tensor-regression": {"logits": 0.0, "outputs": 0.7, "hidden": 0.0},
    "tensor-classification": {"hidden": 0.0},
}
"""Task -> weights of the objective, unless a recipe says others. A module of one's own need not have hidden states that
a projection relates."""
MERGED = ("data", "objective", "training", "calibration", "teacher_cache")
"""Sections that a stage completes key by key."""
INHERITED = ("teacher", "task", "penalties", *MERGED)


class Job(Section):
    """What is trained on what, and how; paths are absolute once loaded."""

    teacher: RecipePath
    """Folder of a Hugging Face checkpoint, or of what `save_student` wrote."""
    task: Name = DEFAULT_TASK
    data: DataSettings
    """In the form that `task` asks for."""
    plan: tuple[PlanStep, ...] = ()
    objective: ObjectiveSettings = ObjectiveSettings()
    penalties: tuple[PenaltyEntry, ...] = ()
    """Beside the objective: further terms of the loss, and proximal steps after the optimizer's."""
    gates: GateSettings | None = None
    """On the dimensions of the student that the plan makes."""
    training: TrainingSettings = TrainingSettings()
    calibration: CalibrationSettings = CalibrationSettings()
    teacher_cache: TeacherCacheSettings = TeacherCacheSettings()

    @model_validator(mode="before")
    @classmethod
    def _weights_of_task(cls, data: Any) -> Any:
        """The weights that a recipe does not name, where its task has others than most."""
        others = OWN_WEIGHTS.get(str(data.get("task"))) if isinstance(data, dict) else None
        objective = data.get("objective", {}) if others else None
        return {**data, "objective": {**others, **objective}} if others and isinstance(objective, dict) else data

    @model_validator(mode="after")
    def _no_logits_of_values(self) -> "Job":
        if self.task in VALUED and self.objective.logits:
            raise ValueError(
                f"objective.logits is {self.objective.logits:g}, and {self.task} has no classes that logits could "
                "tell apart; set it to 0, and objective.outputs to match the numbers"
            )
        return self

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

    def to_gates(self) -> Gates | None:
        """The gates that `build_student` takes; their draws go by the seed of the training."""
        return self.gates.to_gates(self.training.seed) if self.gates is not None else None

    @property
    def reads(self) -> tuple[Path, ...]:
        """The teacher and the data."""
        return (self.teacher, *self.data.paths.values())

    def check_own_paths(self, prefix: str = "") -> None:
        """Refuse, before any work is done, a teacher or data that are not there.

        Raises:
            InputError: naming the key, behind `prefix`, and the path.
        """
        if not any((self.teacher / name).is_file() for name in ("config.json", "edgefold.json")):
            what = "has no config.json" if self.teacher.is_dir() else "is not a folder"
            raise InputError(
                f"{prefix}teacher: {self.teacher} {what}; give the folder of a Hugging Face checkpoint, or one that "
                "save_student wrote."
            )
        self.data.check_paths(f"{prefix}data")


class Stage(Job):
    """A round of training that goes on with the student of the round before; what it leaves out is the recipe's.

    An empty plan keeps the student's sizes. One with steps shrinks the student of the stage before (in the first stage,
    the teacher).
    """

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]


def complete_stages(recipe: Any) -> Any:
    """The plain data of a recipe with stages that say everything; other data as they are.

    The plan goes to the first stage alone, gates to the last, data only to a stage of the same task. A recipe without
    a plan has that of its first stage.
    """
    stages = recipe.get("stages") if isinstance(recipe, dict) else None
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages) or not stages:
        return recipe
    first = {"plan": recipe["plan"], **stages[0]} if "plan" in recipe else stages[0]
    planned = {"plan": first["plan"], **recipe} if "plan" in first else recipe
    completed = [_completed(stage, recipe) for stage in (first, *stages[1:])]
    if "gates" in recipe:
        completed[-1] = {"gates": recipe["gates"], **completed[-1]}
    return {**planned, "stages": completed}


def _completed(stage: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    task = recipe.get("task", DEFAULT_TASK)
    has_same_task = stage.get("task", task) == task
    names = [name for name in INHERITED if name in recipe and (name != "data" or has_same_task)]
    completed = {name: recipe[name] for name in names} | dict(stage)
    for name in set(MERGED) & set(names):
        if isinstance(recipe[name], dict) and isinstance(completed[name], dict):
            completed[name] = {**recipe[name], **completed[name]}
    return completed
