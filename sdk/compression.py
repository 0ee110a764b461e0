"""compress(recipe, out): the job behind `edgefold compress`: teacher to folded student, resumable at any kill."""

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from edgefold.checkpoints import save_student
from edgefold.dimensions import Dimension, trace
from edgefold.distillation import Objective
from edgefold.errors import GateError, InputError
from edgefold.folding import fold
from edgefold.recipes import Recipe, dump_recipe, load_recipe
from edgefold.sparsity import sparsity_figures, weight_table
from edgefold.staging import check_output_folder, staged_folder
from edgefold.student_building import build_student
from edgefold.students import Student
from edgefold.text_classification import (
    CurvePoint,
    Progress,
    TokenizedText,
    accuracy,
    accuracy_metric,
    curve,
    no_progress,
    training_arguments,
    use_threads,
    watch,
)
from edgefold.text_data import TextSplits, read_splits
from edgefold.training import CompressionTrainer
from edgefold.vocabularies import trim_vocabulary, used_tokens

FOLD_TOLERANCE = 1e-5
TEACHER_CACHE_GIB = 4.0


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


def compress(
    recipe: Recipe, out: str | Path, *, resume: bool = False, overwrite: bool = False, progress: Progress = no_progress
) -> CompressionResult:
    """Build, train, fold and save the student of a recipe.

    Checkpoints lie in a hidden sibling of `out` until the student stands whole in `out`; `resume` goes on from the last
    complete one.

    Raises:
        InputError: bad data or plan, an output that exists, or a resume with another recipe.
        GateError: the folded student does not compute what was trained.
    """
    out = Path(out).absolute()
    check_output_folder(out, overwrite)
    recipe.check_paths()
    work = _work_folder(out, recipe, resume, overwrite)
    use_threads(recipe.training.threads)
    torch.manual_seed(recipe.training.seed)
    started = time.perf_counter()

    tokenizer = AutoTokenizer.from_pretrained(recipe.teacher, local_files_only=True)
    teacher = _load_teacher(recipe)
    splits = _read(recipe, teacher)
    whole = (teacher, tokenizer)
    teacher, tokenizer = _with_vocabulary(recipe, teacher, tokenizer, splits)
    train, validation, test = (
        TokenizedText(examples, tokenizer, recipe.data.max_length)
        for examples in (splits.train, splits.validation, splits.test)
    )
    progress("calibrate", 0, 1, {})
    begun = time.perf_counter()
    batches = train.batches(tokenizer, 16, recipe.calibration.samples)
    inputs = batches[len(batches) // 2]
    student = build_student(
        teacher,
        recipe.to_plan(),
        inputs,
        batches,
        recipe.training.mode,
        start=recipe.calibration.start,
        progress=lambda _, done, total, figures: progress("calibrate", done, total + 1, figures),
    )
    metrics = {"calibration_seconds": time.perf_counter() - begun}
    if recipe.vocabulary is not None:
        metrics["vocabulary_size"] = float(len(tokenizer))
    metrics["untrained_accuracy"] = accuracy(student, validation, tokenizer)
    progress("calibrate", 1, 1, metrics)

    trainer = CompressionTrainer(
        student.train(),
        teacher=teacher,
        objective=Objective(**recipe.objective.model_dump(), penalties=recipe.to_penalties()),
        args=training_arguments(recipe.training, work / "checkpoints", checkpoints=True),
        train_dataset=train,
        eval_dataset=validation,
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy_metric,
        teacher_cache_gib=TEACHER_CACHE_GIB,
    )
    watch(trainer, "train", progress)
    begun = time.perf_counter()
    trainer.train(resume_from_checkpoint=_last_checkpoint(work / "checkpoints") if resume else None)
    metrics["training_seconds"] = time.perf_counter() - begun
    student.eval().cpu()

    plain = fold(student)
    if recipe.penalties:
        metrics |= sparsity_figures(fold(student, remove_dead=False), plain)
    metrics["fold_error"] = _fold_error(student, plain, validation.batches(tokenizer, 16, 64))
    metrics["validation_accuracy"] = accuracy(plain, validation, tokenizer)
    metrics["test_accuracy"] = accuracy(plain, test, tokenizer)
    metrics["teacher_test_accuracy"] = _accuracy_of_whole(*whole, splits, recipe)
    metrics["seconds"] = time.perf_counter() - started
    dimensions = _resized(student, list(trace(teacher, inputs).dimensions))
    weights = weight_table(plain, _lowers_ranks(recipe)) if recipe.penalties else []
    result = CompressionResult(out, metrics, curve(trainer), dimensions, weights)
    _save(result, recipe, plain, tokenizer, overwrite)
    shutil.rmtree(work, ignore_errors=True)
    return result


def _work_folder(out: Path, recipe: Recipe, resume: bool, overwrite: bool) -> Path:
    """Where an unfinished run keeps its recipe and checkpoints."""
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
        return work
    if work.exists() and not overwrite:
        raise InputError(
            f"An unfinished run of {out} lies in {work}; go on with --resume, or start anew with --overwrite."
        )
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    dump_recipe(recipe, stored)
    return work


def _last_checkpoint(folder: Path) -> str | None:
    """The newest complete checkpoint; the Trainer writes trainer_state.json last, so a half-written one lacks it."""
    complete = {}
    for checkpoint in folder.glob("checkpoint-*"):
        try:
            complete[int(json.loads((checkpoint / "trainer_state.json").read_text())["global_step"])] = checkpoint
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    return str(complete[max(complete)]) if complete else None


def _load_teacher(recipe: Recipe) -> Any:
    try:
        teacher = AutoModelForSequenceClassification.from_pretrained(recipe.teacher, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"The teacher {recipe.teacher} cannot be opened: {str(error).splitlines()[0]}") from error
    return teacher.float().eval()


def _with_vocabulary(recipe: Recipe, teacher: Any, tokenizer: Any, splits: TextSplits) -> tuple[Any, Any]:
    """The pair as it is, or with the tokens of the training texts alone."""
    if recipe.vocabulary is None:
        return teacher, tokenizer
    texts = [example.text for example in splits.train]
    return trim_vocabulary(teacher, tokenizer, used_tokens(tokenizer, texts, recipe.vocabulary.min_count))


def _accuracy_of_whole(teacher: Any, tokenizer: Any, splits: TextSplits, recipe: Recipe) -> float:
    """The teacher's accuracy on the test texts with its own, whole vocabulary."""
    return accuracy(teacher.eval(), TokenizedText(splits.test, tokenizer, recipe.data.max_length), tokenizer)


def _read(recipe: Recipe, teacher: Any) -> TextSplits:
    """The data, with labels numbered as the teacher numbers them where it names them."""
    names = [teacher.config.id2label[i] for i in range(teacher.config.num_labels)]
    generic = all(name == f"LABEL_{i}" for i, name in enumerate(names))
    paths = {split: getattr(recipe.data, split) for split in ("train", "validation", "test")}
    splits = read_splits(paths, text=recipe.data.text, label=recipe.data.label, label_names=None if generic else names)
    if len(splits.label_names) != teacher.config.num_labels:
        raise InputError(
            f"The data have {len(splits.label_names)} labels ({', '.join(splits.label_names)}), the teacher has "
            f"{teacher.config.num_labels} outputs; give data labelled for this teacher."
        )
    return splits


def _fold_error(student: Student, plain: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> float:
    """The largest difference of the logits, relative to the largest logit; a gate: folding changes nothing."""
    worst = 0.0
    with torch.no_grad():
        for batch in batches:
            before: Any = student(**batch)
            after = plain(**batch)
            worst = max(worst, float((before.logits - after.logits).abs().max() / before.logits.abs().max()))
    if not worst <= FOLD_TOLERANCE:
        raise GateError(
            f"Folding changed the student by {worst:.2e} (relative), more than {FOLD_TOLERANCE:.0e}; it was not saved."
        )
    return worst


def _resized(student: Student, dimensions: list[Dimension]) -> list[dict[str, Any]]:
    sizes = student.structure.sizes
    return [
        {"name": d.name, "kind": d.kind, "teacher_size": d.size, "student_size": sizes[d.name][1]}
        for d in dimensions
        if d.name in sizes
    ]


def _lowers_ranks(recipe: Recipe) -> bool:
    return any(entry.nuclear_norm is not None for entry in recipe.penalties)


def _save(result: CompressionResult, recipe: Recipe, plain: torch.nn.Module, tokenizer: Any, overwrite: bool) -> None:
    """The student's folder with the resolved recipe, metrics and training curve beside the model."""
    lineage = {
        "teacher": str(recipe.teacher.name),
        "plan": recipe.to_plan().to_dicts(),
        "metrics": result.metrics,
        "versions": {name: version(name) for name in ("edgefold", "torch", "transformers")},
    }
    with staged_folder(result.student, overwrite) as folder:
        save_student(plain, folder, tokenizer=tokenizer, lineage=lineage, overwrite=True)
        dump_recipe(recipe, folder / "recipe.yaml")
        (folder / "metrics.json").write_text(json.dumps(result.metrics, indent=2) + "\n")
        points = [dataclasses.asdict(point) for point in result.curve]
        (folder / "training.json").write_text(
            json.dumps({"curve": points, "dimensions": result.dimensions, "weights": result.weights}, indent=2) + "\n"
        )
