"""Recommendation: which label (a click or none, a rating) a combination of ids gets; the teacher is any module.

The teacher's folder is what `save_student(module, folder, inputs=...)` wrote: its forward takes a tensor of ids (rows,)
by the name of each column, and returns logits (rows, labels).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from edgefold.checkpoints import load_student
from edgefold.data.choices import Choice, check_choices, find_choice_names, read_choices
from edgefold.distillation import logits_of
from edgefold.errors import InputError
from edgefold.recipes.data import ChoiceData
from edgefold.scores.rankings import area_under_curve
from edgefold.tasks.batches import EncodedRows, run_over
from edgefold.tasks.task import Collate, Metric, Splits, Task


def evaluate_choices(model: nn.Module, dataset: Any, collate: Collate) -> dict[str, float]:
    """The share of rows whose largest logit is the label's; of two labels, the area under the curve as well."""
    right, scores, is_second = 0, [], []
    for _, batch, outputs in run_over(model, dataset, collate):
        logits = logits_of(outputs)
        right += int((logits.argmax(-1) == batch["labels"]).sum())
        if logits.shape[-1] == 2:
            scores += (logits[:, 1] - logits[:, 0]).tolist()
            is_second += (batch["labels"] == 1).tolist()
    area = area_under_curve(scores, is_second)
    return {"accuracy": right / len(dataset), **({} if area is None else {"area_under_curve": area})}


def _open_teacher(folder: Path) -> nn.Module:
    teacher = load_student(folder)
    if not isinstance(teacher, GraphModule):
        raise InputError(
            f"{folder} holds a {type(teacher).__name__}; a recommender is saved with its inputs: "
            "save_student(module, folder, inputs=...)."
        )
    return teacher


def _start_teacher(folder: Path, data: ChoiceData) -> nn.Module:
    raise InputError("A recommender has no pretrained model to start from; train your module and save it.")


def _read(data: ChoiceData, teacher: nn.Module) -> Splits:
    rows = {split: read_choices(path, columns=data.columns, label=data.label) for split, path in data.paths.items()}
    names = find_choice_names(rows["train"])
    for split, path in data.paths.items():
        check_choices(rows[split], names, path)
        _check_ids(rows[split], teacher, data, path, len(names))
    return Splits(*((rows[split], names) for split in data.paths))


def _check_ids(rows: Sequence[Choice], teacher: nn.Module, data: ChoiceData, path: Path, labels: int) -> None:
    """Run the teacher on the largest ids.

    Raises:
        InputError: it takes other columns, has no row for such an id, or has another number of labels.
    """
    largest = [max(row.ids[i] for row in rows) for i in range(len(data.columns))]
    inputs = {name: torch.tensor([value] * 2) for name, value in zip(data.columns, largest, strict=True)}
    shown = ", ".join(f"{name} {value}" for name, value in zip(data.columns, largest, strict=True))
    try:
        with torch.no_grad():
            logits = logits_of(teacher(**inputs))
    except (IndexError, TypeError, RuntimeError) as error:
        said = str(error).splitlines()[0]
        raise InputError(f"{path}: the teacher does not take the largest ids, {shown}: {said}.") from None
    if logits.shape != (2, labels):
        raise InputError(
            f"The data have {labels} labels; for 2 rows the teacher returns {tuple(logits.shape)}, not (2, {labels})."
        )


def _encode(examples: tuple[Sequence[Choice], Sequence[str]], processor: None, data: ChoiceData) -> EncodedRows:
    rows, names = examples
    number = {name: i for i, name in enumerate(names)}
    return EncodedRows([{**dict(zip(data.columns, row.ids, strict=True)), "labels": number[row.label]} for row in rows])


def _collate(rows: Sequence[Any]) -> dict[str, Tensor]:
    return {name: torch.tensor([row[name] for row in rows]) for name in rows[0]}


RECOMMENDATION = Task(
    metrics=(Metric("accuracy"),),
    open_teacher=_open_teacher,
    start_teacher=_start_teacher,
    read=_read,
    encode=_encode,
    collator=lambda processor, data, teacher: _collate,
    evaluate=evaluate_choices,
    open_processor=lambda folder: None,
)
