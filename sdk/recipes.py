"""Recipes: one YAML file that says which teacher to compress, on which data, under which plan, and how to train."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from edgefold.errors import InputError
from edgefold.penalty_settings import PenaltyEntry
from edgefold.plans import STEPS, Plan, Step
from edgefold.recipe_data import DATA, DataSettings
from edgefold.recipe_errors import describe_errors
from edgefold.recipe_sections import Count, Name, RecipePath, Section, Share, Weight
from edgefold.recipe_yaml import YamlDocument, parse_yaml
from edgefold.staging import staged_file

if TYPE_CHECKING:
    from edgefold.penalties import Penalty

DEFAULT_TASK = "text-classification"


class ResizeSettings(Section):
    """New size of the dimensions that a name, a family or a glob stands for."""

    dimension: Name
    size: Count


class ProjectSettings(ResizeSettings):
    """The same, and which activations count for the start."""

    emphasis: dict[Name, Weight] | None = None
    """Module path or glob -> weight; 1 elsewhere."""


class LowRankSettings(Section):
    """Rank, or energy kept, of the factors of the matrices that a name or a glob stands for."""

    where: Name
    rank: Count | None = None
    energy: Annotated[float, Field(gt=0, le=1)] | None = None
    multiple_of: Count = 8


class DropLayersSettings(Section):
    """The layers that stay of a stack: by index, or every n-th."""

    keep: tuple[Annotated[int, Field(strict=True, ge=0)], ...] | None = None
    every: Count | None = None
    stack: Name | None = None


class ShareLayersSettings(Section):
    """Into how many groups of layers that share their parameters a stack is parted."""

    groups: Count = 1
    stack: Name | None = None
    start: Literal["mean", "first"] = "mean"


class BottleneckSettings(Section):
    """The nonlinear projection after each layer of a stack."""

    size: Count
    where: Name = "layers"
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    residual: bool = True


class MaskSettings(Section):
    """Which weights are held at zero, and from when to when in training their number grows."""

    where: Name = "*"
    score: Literal["magnitude", "movement", "wanda"] = "magnitude"
    begin: Share = 0.0
    end: Share = 0.5


class UnstructuredSettings(MaskSettings):
    """The share of single weights."""

    sparsity: Annotated[float, Field(gt=0, lt=1)]


class BlockSettings(UnstructuredSettings):
    """The share of blocks of this shape, outputs and inputs."""

    shape: tuple[Count, Count] = (4, 4)


class NMSettings(MaskSettings):
    """How many of how many consecutive inputs are kept."""

    n: Count
    m: Count
    end: Share = 0.0


class PlanStep(Section):
    """One step of the plan; exactly one of its keys is given."""

    project: ProjectSettings | None = None
    select: ResizeSettings | None = None
    low_rank: LowRankSettings | None = None
    drop_layers: DropLayersSettings | None = None
    share_layers: ShareLayersSettings | None = None
    bottleneck: BottleneckSettings | None = None
    unstructured: UnstructuredSettings | None = None
    block: BlockSettings | None = None
    nm: NMSettings | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "PlanStep":
        if len(self.model_fields_set) != 1 or self.to_step() is None:
            given = ", ".join(sorted(self.model_fields_set)) or "nothing"
            raise ValueError(f"a step has exactly one of {', '.join(STEPS)}; got {given}")
        return self

    def to_step(self) -> Step | None:
        """The step of a Plan; None only where validation has not been passed.

        Raises:
            InputError: its keys do not go together.
        """
        given = {key: settings for key in STEPS if (settings := getattr(self, key)) is not None}
        return next((STEPS[key](**settings.model_dump()) for key, settings in given.items()), None)


LayerIndex = Annotated[int, Field(strict=True, ge=0)]


class ContrastSettings(Section):
    """Which vectors a contrastive term draws together."""

    positives: Literal["teacher", "dropout", "labels"] = "teacher"
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.05
    pooling: Literal["mean", "cls", "last"] = "mean"
    at: Name | None = None


class ObjectiveSettings(Section):
    """Weights of the terms of the loss."""

    task: Weight = 0.3
    logits: Weight = 0.7
    """Weight of temperature^2 * KL(teacher || student)."""
    hidden: Weight = 1.0
    """Weight of matching hidden states through the projection."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    l1: Weight = 0.0
    l2: Weight = 0.0
    attention: Weight = 0.0
    """Of matching attention maps."""
    relations: Weight = 0.0
    """Of matching relations among queries, keys and values of the last layers."""
    embeddings: Weight = 0.0
    """Of matching what enters the first layer."""
    cosine: Weight = 0.0
    """Of matching the directions of hidden states."""
    contrastive: Weight = 0.0
    contrast: ContrastSettings = ContrastSettings()
    """Which form `contrastive` takes."""
    layer_map: Literal["auto", "uniform", "last"] | tuple[tuple[LayerIndex, LayerIndex], ...] = "auto"
    """Student layers -> teacher layers; or pairs of indices."""
    relation_heads: Count | None = None

    @model_validator(mode="after")
    def _something_to_learn(self) -> "ObjectiveSettings":
        terms = (self.task, self.logits, self.hidden, self.attention, self.relations, self.embeddings, self.cosine)
        if sum(terms) + self.contrastive == 0:
            raise ValueError("task, logits and hidden are all 0, so there is nothing to learn from; set one above 0")
        return self


class TrainingSettings(Section):
    """How the student is trained; the defaults are right for a student of a third of the width."""

    mode: Literal["weights", "projection", "all"] = "weights"
    epochs: Count = 6
    batch_size: Count = 32
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 4e-4
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.06
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    threads: Count | None = None
    """CPU threads; None chooses by the cores that are free."""
    bf16: Literal["auto", True, False] = "auto"
    checkpoint_steps: Count = 100
    """Optimizer steps between the checkpoints from which --resume goes on."""


class VocabularySettings(Section):
    """Which tokens the student knows."""

    keep: Literal["used"] = "used"
    """Those of the training texts, and what the tokenizer cannot do without."""
    min_count: Count = 1
    """How often a token must occur to count as used."""


class TeacherCacheSettings(Section):
    """Where the teacher's outputs are kept, so that its forward pass is paid for once per example."""

    memory_gib: Weight = 4.0
    """At most, in memory; 0 computes them anew in every epoch."""
    folder: RecipePath | None = None
    """On disk instead, for every run with this teacher and these data."""


class CalibrationSettings(Section):
    """How much training text the student starts from, and how."""

    samples: Count = 512
    start: Literal["sequential", "pca"] = "sequential"
    """"pca" composes the weights with the calibrated projections; "sequential" then fits layer after layer."""
    importance: Literal["energy", "elimination"] = "energy"
    """What selections keep: by "elimination" what their readers would miss most once they are fitted."""


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
