"""The demo, start to end: fine-tune, compress, export, verify, measure, report."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from edgefold.artifacts import Artifact
from edgefold.checkpoints import load_student
from edgefold.cli.answers import Answer
from edgefold.cli.demo_measurement import (
    BASELINE,
    BATCH,
    SEQUENCE,
    Contestant,
    as_result,
    choose_int8,
    layer_shapes,
    measure_accuracy,
    measure_times,
)
from edgefold.cli.demo_rivals import (
    RANDOM_START_LEARNING_RATE,
    SECOND_LAYER_LEARNING_RATE,
    every_second_layer,
    random_start,
    train_for,
)
from edgefold.cli.progress import shown_progress
from edgefold.cli.tables import make_table
from edgefold.compression import compress
from edgefold.compression_results import CompressionResult
from edgefold.demo_data import fetch_model, load_reviews
from edgefold.distillation import Objective
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.fine_tuning import FineTuned, fine_tune
from edgefold.recipes import Recipe, TrainingSettings, check_recipe
from edgefold.report_page import render_report
from edgefold.reports import Report
from edgefold.runtimes import read_device_state
from edgefold.stage_runs import FOLD_TOLERANCE
from edgefold.staging import check_output_folder
from edgefold.summaries import CurveData, DemoSummary, GateResult, find_dominated
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.text_classification import tokenize
from edgefold.text_data import TextSplits
from edgefold.training_runs import CurvePoint, Progress, use_threads

MAX_LENGTH = 64
PARITY_TOLERANCE = 1e-4
INT8_COST_LIMIT = 0.015
"""Accuracy that int8 may cost on the validation data."""
SHAPES = {
    "third": {"hidden": 128, "ffn": 512, "heads": 4, "learning_rate": 4e-4, "epochs": 6},
    "half": {"hidden": 192, "ffn": 768, "heads": 6, "learning_rate": 3e-4, "epochs": 4},
}
"""A fitted start wants a smaller step: a third, seed 0, ended at .856 on the validation data, and at 8e-4 at .845."""
TEACHER = TrainingSettings(learning_rate=6e-5, epochs=2)
CALIBRATION_ROWS = 128


def run_demo(
    out: Path, *, quick: bool, rivals: bool, width: Literal["third", "half"], seed: int, overwrite: bool
) -> Answer:
    """Run everything into `out`; the summary and the report are written last.

    Raises:
        InputError: `out` exists and is not empty.
        EdgefoldError: the demo's packages cannot be fetched.
        GateError: folding or exporting changed the function.
    """
    begun = time.perf_counter()
    check_output_folder(out, overwrite)
    before = read_device_state()
    pretrained, splits = fetch_model(), load_reviews()
    shutil.rmtree(out, ignore_errors=True)
    splits = _shortened(splits) if quick else splits
    _write_data(splits, out / "data")
    with shown_progress() as progress:
        settings = TEACHER.model_copy(update={"seed": seed} | ({"epochs": 1} if quick else {}))
        recipe = _recipe(out, width, seed, quick)
        teacher = fine_tune(pretrained, recipe.data, settings, out / "teacher", progress=progress)
        student = compress(recipe, out / "student", progress=progress)
        job = _Job(out, splits, recipe, progress)
        contestants = job.export("teacher", "teacher", out / "teacher", teacher.seconds)
        contestants += job.export("student", "student", student.student, _seconds(student))
        contestants += job.train_rivals(_seconds(student)) if rivals else []
        job.measure_accuracies(contestants)
        progress("benchmark", 0, 1, {})
        reports = measure_times(contestants, out / "benchmark.json", 0.5 if quick else 3.0)
        progress("benchmark", 1, 1, {})
    _choose(contestants, reports)
    summary = _summarize(job, contestants, reports, teacher, student, width, seed, quick, before, begun)
    summary.write(out / "summary.json")
    render_report(summary, out / "report.html")
    return Answer(json.loads(summary.model_dump_json()), _texts(summary, out), 0 if _passed(summary) else 3)


class _Job:
    """What the steps after training share."""

    def __init__(self, out: Path, splits: TextSplits, recipe: Recipe, progress: Progress) -> None:
        self.out = out
        self.recipe = recipe
        self.progress = progress
        self.threads = use_threads(None)
        self.tokenizer = AutoTokenizer.from_pretrained(out / "teacher", local_files_only=True)
        self.train, self.validation, self.test = (
            tokenize(examples, self.tokenizer, MAX_LENGTH)
            for examples in (splits.train, splits.validation, splits.test)
        )
        self.collate = DataCollatorWithPadding(self.tokenizer)
        self.calibration = bare_batches(self.train, self.collate, 8, CALIBRATION_ROWS)

    def teacher(self) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(self.out / "teacher", local_files_only=True).eval()

    def export(self, name: str, role: Any, folder: Path, seconds: float | None) -> list[Contestant]:
        """fp32, and int8 both ways."""
        model = self.teacher() if role == "teacher" else load_student(folder)
        return self.export_model(name, role, model, seconds)

    def export_model(self, name: str, role: Any, model: Any, seconds: float | None) -> list[Contestant]:
        self.progress(f"export {name}", 0, 3, {})
        inputs = self.calibration[len(self.calibration) // 2]
        stem = name.replace(" ", "-")
        fp32 = export_onnx(
            model,
            inputs,
            self.out / "onnx" / f"{stem}-fp32",
            tokenizer=self.tokenizer,
            task="text-classification",
            tolerance=PARITY_TOLERANCE,
        )
        artifacts: dict[str, Artifact] = {"fp32": fp32}
        for done, method in enumerate(("static", "dynamic"), 1):
            self.progress(f"export {name}", done, 3, {})
            artifacts[f"int8 {method}"] = quantize_onnx(
                fp32,
                self.out / "onnx" / f"{stem}-int8-{method}",
                quantization=method,  # type: ignore[arg-type]
                calibration=self.calibration,
            )
        self.progress(f"export {name}", 3, 3, {})
        return [Contestant(f"{name} {kind}", role, artifact, model, seconds) for kind, artifact in artifacts.items()]

    def train_rivals(self, seconds: float) -> list[Contestant]:
        """A random start of the student's shape, and every second layer of the teacher, for the student's seconds."""
        teacher = self.teacher()
        settings, objective = self.recipe.training, self.recipe.objective
        batches = bare_batches(self.train, self.collate, 16, self.recipe.calibration.samples)
        scratch, slower = (
            settings.model_copy(update={"learning_rate": rate})
            for rate in (RANDOM_START_LEARNING_RATE, SECOND_LAYER_LEARNING_RATE)
        )
        logits_alone = Objective(task=objective.task, logits=objective.logits, hidden=0.0)
        rivals: Sequence[tuple[str, Any, Objective, TrainingSettings]] = (
            ("random start", random_start(teacher, self.recipe, batches), logits_alone, scratch),
            ("every second layer", every_second_layer(self.out / "teacher"), logits_alone, slower),
        )
        contestants = []
        for name, model, losses, training in rivals:
            folder = self.out / f".{name.replace(' ', '-')}.training"
            arguments = (losses, training, self.train, self.collate, folder, name, self.progress)
            took = train_for(seconds, model, teacher, *arguments)
            shutil.rmtree(folder, ignore_errors=True)
            contestants += self.export_model(name, "rival", model, took)
        return contestants

    def measure_accuracies(self, contestants: Sequence[Contestant]) -> None:
        for done, contestant in enumerate(contestants):
            self.progress("accuracy", done, len(contestants), {})
            contestant.validation_accuracy = measure_accuracy(
                contestant.artifact, self.validation, self.tokenizer, self.threads
            )
            contestant.accuracy = measure_accuracy(contestant.artifact, self.test, self.tokenizer, self.threads)
        self.progress("accuracy", len(contestants), len(contestants), {})


def _shortened(splits: TextSplits) -> TextSplits:
    return TextSplits(splits.label_names, splits.train[:1600], splits.validation[:200], splits.test[:500])


def _write_data(splits: TextSplits, folder: Path) -> None:
    """As jsonl, so that the recipe beside the result can be run again."""
    folder.mkdir(parents=True)
    for name in ("train", "validation", "test"):
        rows = [{"text": e.text, "label": splits.label_names[e.label]} for e in getattr(splits, name)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _recipe(out: Path, width: str, seed: int, quick: bool) -> Recipe:
    shape = SHAPES[width]
    return check_recipe(
        {
            "teacher": str(out / "teacher"),
            "data": {
                **{split: str(out / "data" / f"{split}.jsonl") for split in ("train", "validation", "test")},
                "max_length": MAX_LENGTH,
            },
            "plan": [
                {"project": {"dimension": "hidden", "size": shape["hidden"]}},
                {"select": {"dimension": "ffn", "size": shape["ffn"]}},
                {"select": {"dimension": "heads", "size": shape["heads"]}},
            ],
            "training": {
                "epochs": 2 if quick else shape["epochs"],
                "learning_rate": shape["learning_rate"],
                "seed": seed,
            },
            "calibration": {"samples": 128 if quick else 512},
        }
    )


def _seconds(student: CompressionResult) -> float:
    """What the student took to start and to train."""
    return student.metrics["calibration_seconds"] + student.metrics["training_seconds"]


def _choose(contestants: Sequence[Contestant], reports: Mapping[str, Report]) -> None:
    """One int8 variant for each model, by the validation data."""
    for fp32 in (c for c in contestants if c.artifact.precision == "fp32"):
        stem = fp32.name.removesuffix(" fp32")
        choose_int8([c for c in contestants if c.name.startswith(f"{stem} int8")], reports, fp32)


def _summarize(
    job: _Job,
    contestants: Sequence[Contestant],
    reports: Mapping[str, Report],
    teacher: FineTuned,
    student: CompressionResult,
    width: str,
    seed: int,
    quick: bool,
    before: Any,
    begun: float,
) -> DemoSummary:
    results = {c.name: as_result(c, reports) for c in contestants}
    chosen = [result for result in results.values() if result.chosen]
    by_role = {(r.role, r.precision): r for r in chosen}
    base, fp32, int8 = by_role["teacher", "fp32"], by_role["student", "fp32"], by_role["student", "int8"]
    validation = {c.name: c.validation_accuracy for c in contestants}
    parity = max(c.artifact.lineage["parity"]["fp32"] for c in contestants if c.role == "student")
    return DemoSummary(
        teacher_accuracy=base.accuracy,
        student_accuracy=fp32.accuracy,
        int8_accuracy=int8.accuracy,
        share_of_teacher=fp32.accuracy / base.accuracy,
        speedup_fp32=fp32.ratio.value,
        speedup_int8=int8.ratio.value,
        teacher_int8_speedup=by_role["teacher", "int8"].ratio.value,
        teacher_parameters=base.parameters,
        student_parameters=fp32.parameters,
        teacher_encoder_parameters=base.encoder_parameters,
        student_encoder_parameters=fp32.encoder_parameters,
        seed=seed,
        width=width,
        quick=quick,
        test_rows=len(job.test),
        threads_measured=1,
        shape=f"batch {BATCH}, {SEQUENCE} tokens",
        seconds={
            "teacher": teacher.seconds,
            "student": _seconds(student),
            "everything": time.perf_counter() - begun,
        },
        results=tuple(results.values()),
        dominated=find_dominated(chosen),
        curves=(*_curves("teacher", teacher.curve), *_curves("student", student.curve)),
        dimensions=tuple(student.dimensions),
        layers=layer_shapes(job.teacher(), load_student(student.student)),
        gates=(
            GateResult(
                name="fold: relative change of the logits", value=student.metrics["fold_error"], limit=FOLD_TOLERANCE
            ),
            GateResult(name="export: largest difference from torch", value=parity, limit=PARITY_TOLERANCE),
            GateResult(
                name="int8: validation accuracy lost",
                value=validation[fp32.name] - validation[int8.name],
                limit=INT8_COST_LIMIT,
            ),
        ),
        device_before=before,
        device_after=read_device_state(),
        commands=(
            f"edgefold demo --width {width} --seed {seed}{' --quick' if quick else ''}",
            "edgefold compress student/recipe.yaml --out again",
            "edgefold bench onnx/student-int8-dynamic --against onnx/teacher-fp32",
        ),
    )


def _curves(name: str, points: Sequence[CurvePoint]) -> list[CurveData]:
    """One line for each figure that was logged more than once."""
    figures = dict.fromkeys(
        figure for point in points for figure in point.figures if figure in _PLOTTED or "loss_" in figure
    )
    lines = []
    for figure in figures:
        logged = [(point.epoch, point.figures[figure]) for point in points if figure in point.figures]
        lines.append(
            CurveData(name=f"{name} {figure}", epochs=tuple(e for e, _ in logged), values=tuple(v for _, v in logged))
        )
    return lines


_PLOTTED = ("loss", "eval_accuracy")


def _passed(summary: DemoSummary) -> bool:
    return all(gate.passed for gate in summary.gates)


def _texts(summary: DemoSummary, out: Path) -> tuple[Any, ...]:
    columns = ("model", "encoder params", "MB", "accuracy", "of teacher", "p50 ms", "faster by", "dominated by")
    rows = [
        (
            result.name,
            f"{result.encoder_parameters / 1e6:.2f} M",
            f"{result.size_bytes / 1e6:.1f}",
            f"{result.accuracy:.2%} ± {result.standard_error(summary.test_rows):.2%}",
            f"{result.accuracy / summary.teacher_accuracy:.1%}",
            f"{result.p50_s * 1e3:.2f}",
            "1" if result.name == BASELINE else f"{result.ratio.value:.2f}x",
            summary.dominated.get(result.name, "-" if result.chosen else "not chosen"),
        )
        for result in summary.results
    ]
    title = f"{summary.shape}, one thread, ONNX Runtime, seed {summary.seed}, {summary.test_rows} test rows"
    missed = [f"{gate.name}: {gate.value:.2e} is above {gate.limit:.2e}" for gate in summary.gates if not gate.passed]
    return (
        make_table(title, columns, rows),
        *(["Missed: " + "; ".join(missed)] if missed else []),
        f"{summary.seconds['everything'] / 60:.1f} minutes. The report is {out / 'report.html'}, the figures are in "
        f"{out / 'summary.json'}.",
    )
