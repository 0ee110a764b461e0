"""Every recipe for text classification on the demo task: quality, size and latency of what it makes, and what it costs.

    DEMOS=out/demo make bench ARGS="-k recipes"

Each folder of DEMOS is one that `edgefold demo` wrote; its number among them is the seed of its students.
RECIPES="seed,albert" chooses some, EPOCHS=1 shortens all. One thread and processor time, the teacher's outputs
included: they are a part of what a recipe costs. int8 is the faster of static and dynamic within half a point of fp32
on the validation texts; latency is of batch 1 and 128 tokens, all in turns.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from edgefold.checkpoints import load_student
from edgefold.cli.demo_measurement import Contestant, choose_int8, measure_accuracy, measure_times
from edgefold.compression import compress
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.recipes import Recipe, check_recipe, load_recipe
from edgefold.reports import Report, paired_ratio
from edgefold.sparsity import weight_table
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.text_classification import tokenize
from edgefold.text_data import read_splits

FOLDER = Path(__file__).parents[2] / "examples" / "recipes"
TASK = "text-classification"
LENGTH = 64


@dataclass
class Row:
    """One student of one recipe."""

    recipe: str
    seed: int
    metrics: dict[str, float]
    minutes: float
    zero_share: float
    forms: list[Contestant]
    """fp32, int8 static, int8 dynamic."""


class Demo:
    """A teacher and its data, as the demo left them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder / "teacher", local_files_only=True)
        self.teacher: Any = AutoModelForSequenceClassification.from_pretrained(folder / "teacher").eval()
        paths = {split: folder / "data" / f"{split}.jsonl" for split in ("train", "validation", "test")}
        names = [self.teacher.config.id2label[i] for i in range(self.teacher.config.num_labels)]
        splits = read_splits(paths, text="text", label="label", label_names=names)
        train, self.validation, self.test = (
            tokenize(part, self.tokenizer, LENGTH) for part in (splits.train, splits.validation, splits.test)
        )
        self.calibration = bare_batches(train, DataCollatorWithPadding(self.tokenizer), 8, 128)

    def recipe(self, path: Path, seed: int) -> Recipe:
        """The file's recipe on this teacher and these data."""
        content = load_recipe(path).model_dump(mode="json", exclude_none=True)
        content["teacher"] = str(self.folder / "teacher")
        for split in ("train", "validation", "test"):
            content["data"][split] = str(self.folder / "data" / f"{split}.jsonl")
        content["training"] |= {"seed": seed, "threads": 1}
        if "EPOCHS" in os.environ:
            content["training"]["epochs"] = int(os.environ["EPOCHS"])
        return check_recipe(content)

    def export(self, name: str, model: torch.nn.Module, out: Path) -> list[Contestant]:
        inputs = self.calibration[len(self.calibration) // 2]
        fp32 = export_onnx(model, inputs, out / f"{name}-fp32", tokenizer=self.tokenizer, task=TASK, tolerance=1e-4)
        artifacts = {"fp32": fp32}
        for method in ("static", "dynamic"):
            artifacts[f"int8 {method}"] = quantize_onnx(
                fp32, out / f"{name}-{method}", quantization=method, calibration=self.calibration
            )
        found = [Contestant(f"{name} {form}", "student", a, model, None) for form, a in artifacts.items()]
        for contestant in found:
            contestant.validation_accuracy = measure_accuracy(contestant.artifact, self.validation, self.tokenizer, 1)
            contestant.accuracy = measure_accuracy(contestant.artifact, self.test, self.tokenizer, 1)
        return found


def run(demo: Demo, path: Path, seed: int, out: Path) -> Row:
    begun = time.process_time()
    result = compress(demo.recipe(path, seed), out / f"{path.stem}-{seed}")
    minutes = (time.process_time() - begun) / 60
    student = load_student(result.student)
    matrices = weight_table(student, with_ranks=False)
    sizes = [torch.Size(row["shape"]).numel() for row in matrices]
    zeros = sum(row["zero_share"] * size for row, size in zip(matrices, sizes, strict=True)) / sum(sizes)
    row = Row(path.stem, seed, result.metrics, minutes, zeros, demo.export(f"{path.stem}-{seed}", student, out))
    figures = {"recipe": row.recipe, "seed": seed, "minutes": minutes, "zeros": zeros, **result.metrics}
    print(json.dumps(figures | {form.name: form.accuracy for form in row.forms}), flush=True)
    return row


def print_table(rows: Sequence[Row], teacher: Contestant, reports: dict[str, Report]) -> None:
    """Of int8 the form that would be chosen."""

    def faster(contestant: Contestant) -> float:
        return paired_ratio(reports[teacher.name], reports[contestant.name]).value

    print(
        f"\nteacher: test accuracy {teacher.accuracy:.4f}, {teacher.parameters / 1e6:.2f} M parameters, "
        f"{teacher.encoder_parameters / 1e6:.2f} M of them of the encoder"
    )
    print("| recipe | seed | of the teacher | parameters, encoder (M) | zeros | fp32 x | int8: of it, x | min |")
    print("|---|---|---|---|---|---|---|---|")
    for row in rows:
        fp32, *candidates = row.forms
        int8 = choose_int8(candidates, reports, fp32)
        print(
            f"| {row.recipe} | {row.seed} | {fp32.accuracy / teacher.accuracy:.1%} | {fp32.parameters / 1e6:.2f}, "
            f"{fp32.encoder_parameters / 1e6:.2f} | {row.zero_share:.1%} | {faster(fp32):.2f} | "
            f"{int8.accuracy / teacher.accuracy:.1%}, {faster(int8):.2f} | {row.minutes:.1f} |"
        )


@pytest.mark.slow
def test_every_recipe_on_the_demo_task(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    chosen = os.environ.get("RECIPES")
    paths = [path for path in sorted(FOLDER.glob("*.yaml")) if load_recipe(path).task == TASK]
    paths = [path for path in paths if chosen is None or path.stem in chosen.split(",")]
    assert paths, f"RECIPES={chosen} names no recipe in {FOLDER}"
    for seed, folder in enumerate(os.environ.get("DEMOS", "out/demo").split(",")):
        demo = Demo(Path(folder))
        out = tmp_path / str(seed)
        out.mkdir()
        (teacher, *_) = demo.export("teacher", demo.teacher, out)
        rows = [run(demo, path, seed, out) for path in paths]
        reports = measure_times([teacher, *(form for row in rows for form in row.forms)], out / "times.json", 1.0)
        print_table(rows, teacher, reports)
        assert mean(row.metrics["share_of_teacher"] for row in rows) > 0.8
