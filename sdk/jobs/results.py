"""CompressionResult, and the student's folder that it is written to."""

import dataclasses
import json
import shutil
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from edgefold.checkpoints import save_student
from edgefold.jobs.stage_inputs import StageInputs
from edgefold.jobs.training_runs import CurvePoint
from edgefold.recipes.data import TextData
from edgefold.recipes.recipe import Recipe, dump_recipe
from edgefold.staging import staged_folder


@dataclass(frozen=True)
class CompressionResult:
    """A finished compression: the student's folder and what was measured on the way."""

    student: Path
    metrics: dict[str, float]
    curve: list[CurvePoint] = field(default_factory=list)
    dimensions: list[dict[str, Any]] = field(default_factory=list)
    """Name, kind, old and new size of every resized dimension."""
    weights: list[dict[str, Any]] = field(default_factory=list)
    """Where there were penalties: name, shape, share of zeros of every matrix, and its rank if that was penalised."""


def save_result(
    result: CompressionResult,
    recipe: Recipe,
    plain: torch.nn.Module,
    inputs: StageInputs,
    logs: Path,
    overwrite: bool,
) -> None:
    """The student's folder: beside the model the resolved recipe, metrics, the training curve and trackers' logs."""
    last = recipe.jobs[-1]
    lineage = {
        "teacher": str(last.teacher.name),
        "task": last.task,
        **({"text_pair": last.data.text_pair is not None} if isinstance(last.data, TextData) else {}),
        "plan": [step for job in recipe.jobs for step in job.to_plan().to_dicts()],
        "metrics": result.metrics,
        "versions": {name: version(name) for name in ("edgefold", "torch", "transformers")},
    }
    example, processor = inputs.example, inputs.processor
    with staged_folder(result.student, overwrite) as folder:
        save_student(plain, folder, inputs=example, tokenizer=processor, lineage=lineage, overwrite=True)
        dump_recipe(recipe, folder / "recipe.yaml")
        (folder / "metrics.json").write_text(json.dumps(result.metrics, indent=2) + "\n")
        points = [dataclasses.asdict(point) for point in result.curve]
        (folder / "training.json").write_text(
            json.dumps({"curve": points, "dimensions": result.dimensions, "weights": result.weights}, indent=2) + "\n"
        )
        if logs.is_dir():
            shutil.copytree(logs, folder / "runs")
