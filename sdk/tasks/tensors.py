"""Tasks of tensors: any model whose forward takes arrays by name, and labels that are classes or numbers.

The teacher's folder is what `save_student(module, folder, inputs=...)` wrote, or a Hugging Face checkpoint. The first
of what it returns is what counts: logits, (rows, classes) or (rows, ..., classes), or (rows, classes, height, width) of
a map; or numbers.
"""

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.utils.data import Dataset
from transformers.utils import CONFIG_NAME

from edgefold.checkpoints import MANIFEST, load_student
from edgefold.data.tensors import Arrays, read_arrays
from edgefold.distillation.logits import IGNORED, classes_last, logits_of
from edgefold.errors import InputError
from edgefold.recipes.data import TensorData
from edgefold.tasks.batches import run_over
from edgefold.tasks.image_classification import stack
from edgefold.tasks.opening import teacher_opener
from edgefold.tasks.task import Collate, Metric, Row, Splits, Task


class TensorRows(Dataset[Row]):
    """Rows of arrays with their labels."""

    def __init__(self, arrays: Arrays) -> None:
        self._tensors = {name: torch.from_numpy(array) for name, array in arrays.inputs.items()}
        self._tensors["labels"] = torch.from_numpy(arrays.labels)

    def __len__(self) -> int:
        return len(self._tensors["labels"])

    def __getitem__(self, index: int) -> Row:
        return {name: tensor[index] for name, tensor in self._tensors.items()}


def evaluate_classes(model: nn.Module, dataset: Any, collate: Collate) -> dict[str, float]:
    """The share of labels that the largest logit tells, those to be ignored left out."""
    right = total = 0
    for _, batch, outputs in run_over(model, dataset, collate):
        counts = batch["labels"] != IGNORED
        right += int((classes_last(logits_of(outputs)).argmax(-1) == batch["labels"])[counts].sum())
        total += int(counts.sum())
    return {"accuracy": right / total}


def evaluate_numbers(model: nn.Module, dataset: Any, collate: Collate) -> dict[str, float]:
    """R^2, the share of the labels' variance (of each about its mean over the rows) that is told, and the mean squared
    error."""
    labels, missed = [], 0.0
    for _, batch, outputs in run_over(model, dataset, collate):
        wanted = batch["labels"].double().flatten(1) if batch["labels"].dim() > 1 else batch["labels"].double()[:, None]
        missed += float((logits_of(outputs).double().reshape(wanted.shape) - wanted).square().sum())
        labels.append(wanted)
    together = torch.cat(labels)
    spread = float((together - together.mean(0)).square().sum())
    return {"r2": 1 - missed / spread if spread else 0.0, "mean_squared_error": missed / together.numel()}


def _open_teacher(folder: Path) -> nn.Module:
    if (folder / MANIFEST).is_file():
        return load_student(folder)
    try:
        named = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))["architectures"][0]
        model_class = getattr(transformers, named)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"The teacher {folder} names no class of transformers in its {CONFIG_NAME} (architectures); save a module "
            "of your own with save_student(module, folder, inputs=...)."
        ) from None
    return teacher_opener(model_class)(folder)


def _start_teacher(folder: Path, data: TensorData) -> nn.Module:
    raise InputError("A model of tensors has no pretrained one to start from; train your module and save it.")


def _read(data: TensorData, teacher: nn.Module, is_classes: bool) -> Splits:
    splits = []
    for path in data.paths.values():
        arrays = read_arrays(path, label=data.labels)
        assert arrays.labels is not None
        if is_classes and arrays.labels.dtype.kind != "i":
            raise InputError(
                f"{path}: {data.labels} is {arrays.labels.dtype}; classes are whole numbers from 0. Of other numbers "
                "the task is tensor-regression."
            )
        if not is_classes:
            arrays = Arrays(arrays.inputs, arrays.labels.astype("float32"))
        _check_outputs(arrays, teacher, path, data.labels, is_classes)
        splits.append(arrays)
    return Splits(*splits)


def _check_outputs(arrays: Arrays, teacher: nn.Module, path: Path, label: str, is_classes: bool) -> None:
    """Run the teacher on two rows, and on those of the largest and smallest whole numbers, such as ids.

    Raises:
        InputError: it takes other inputs, returns something else than there are labels, or has no such class.
    """
    labels = arrays.labels
    assert labels is not None
    rows = _telling_rows(arrays)
    few = {name: torch.from_numpy(array[rows]) for name, array in arrays.inputs.items()}
    shown = ", ".join(f"{name} {tuple(value.shape)}" for name, value in few.items())
    try:
        with torch.no_grad():
            found = logits_of(teacher(**few))
    except (IndexError, TypeError, RuntimeError, ValueError) as error:
        said = str(error).strip().splitlines()[0]
        raise InputError(f"{path}: the teacher does not take {shown}: {said}.") from None
    if not is_classes:
        if found.numel() != labels[rows].size or len(found) != len(rows):
            raise InputError(
                f"{path}: for {len(found)} rows the teacher returns {tuple(found.shape)}, {label} has the shape "
                f"{labels[rows].shape}; of as many numbers the error is taken."
            )
        return
    logits = classes_last(found)
    if tuple(logits.shape[:-1]) != labels[rows].shape:
        raise InputError(
            f"{path}: for {shown} the teacher returns {tuple(found.shape)}, {label} is {labels[rows].shape}; give a "
            "label for each place that has logits: the index of its class."
        )
    known = labels[labels != IGNORED]
    if not known.size or known.min() < 0 or known.max() >= logits.shape[-1]:
        span = f"from {known.min()} to {known.max()}" if known.size else "none that counts"
        raise InputError(
            f"{path}: {label} has classes {span}, the teacher tells {logits.shape[-1]} apart, from 0 on ({IGNORED} is "
            "left out)."
        )


def _telling_rows(arrays: Arrays) -> list[int]:
    whole = [
        array.reshape(len(array), -1) for array in arrays.inputs.values() if array.dtype.kind == "i" and array.size
    ]
    ends = {int(row) for array in whole for row in (array.max(1).argmax(), array.min(1).argmin())}
    return sorted({*range(min(2, len(arrays))), *ends})


def _task(metrics: tuple[Metric, ...], is_classes: bool) -> Task:
    return Task(
        metrics=metrics,
        open_teacher=_open_teacher,
        start_teacher=_start_teacher,
        read=lambda data, teacher: _read(data, teacher, is_classes),
        encode=lambda arrays, processor, data: TensorRows(arrays),
        collator=lambda processor, data, teacher: stack,
        evaluate=evaluate_classes if is_classes else evaluate_numbers,
        open_processor=lambda folder: None,
    )


TENSOR_CLASSIFICATION = _task((Metric("accuracy"),), is_classes=True)
TENSOR_REGRESSION = _task((Metric("r2"), Metric("mean_squared_error", greater_is_better=False)), is_classes=False)
