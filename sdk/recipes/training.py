"""The sections of a recipe about the run: training, calibration, the teacher's cache and the vocabulary."""

from typing import Annotated, Literal

from pydantic import Field

from edgefold.recipes.sections import Count, Name, RecipePath, Section, Weight


class TrainingSettings(Section):
    """How the student is trained; the defaults are right for a student of a third of the width."""

    mode: Literal["weights", "projection", "all"] = "weights"
    epochs: Count = 6
    batch_size: Count = 32
    gradient_accumulation: Count = 1
    """Batches whose gradients make one step."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 4e-4
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.06
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    threads: Count | None = None
    """CPU threads; None: what OMP_NUM_THREADS says, else one for each core."""
    bf16: Literal["auto", True, False] = "auto"
    checkpoint_steps: Count = 100
    """Optimizer steps between the checkpoints from which --resume goes on."""
    report_to: tuple[Name, ...] = ()
    """Trackers that transformers knows (tensorboard, wandb, ...); nothing is reported anywhere without."""


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
    """On disk instead, for every run with this teacher and these data; each stage has a folder in it."""


class CalibrationSettings(Section):
    """How much training text the student starts from, and how."""

    samples: Count = 512
    start: Literal["sequential", "pca"] = "sequential"
    """"pca" composes the weights with the calibrated projections; "sequential" then fits layer after layer."""
    importance: Literal["energy", "elimination"] = "energy"
    """What selections keep: by "elimination" what their readers would miss most once they are fitted."""
