"""The teacher of the demo with its data, as `edgefold demo` left them, for benchmarks of recipes and searches."""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from edgefold.cli.demo_measurement import Contestant, measure_accuracy
from edgefold.data.texts import read_splits
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.recipes.recipe import Recipe, check_recipe, load_recipe
from edgefold.tasks.batches import bare_batches
from edgefold.tasks.text_classification import tokenize

FOLDER = Path(__file__).parents[1] / "examples" / "recipes"
TASK = "text-classification"
LENGTH = 64


class Demo:
    """A teacher and its data, as the demo left them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder / "teacher", local_files_only=True)
        self.teacher: Any = AutoModelForSequenceClassification.from_pretrained(folder / "teacher").eval()
        paths = {split: folder / "data" / f"{split}.jsonl" for split in ("train", "validation", "test")}
        names = [self.teacher.config.id2label[i] for i in range(self.teacher.config.num_labels)]
        splits = read_splits(paths, text="text", label="label", label_names=names)
        self.train, self.validation, self.test = (
            tokenize(part, self.tokenizer, LENGTH) for part in (splits.train, splits.validation, splits.test)
        )
        self.calibration = bare_batches(self.train, DataCollatorWithPadding(self.tokenizer), 8, 128)

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
