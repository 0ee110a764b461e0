"""A latency model against the clock: ten random plans that it has not seen, predicted and then measured.

    make bench ARGS="-k latency_model"

MiniLM-L6, batch 1 x 128 tokens, ONNX Runtime on one thread, processor time, each student in turns with the teacher.
The model is fitted to MEASURED plans of the same kinds (12 unless told otherwise) and the teacher. PRECISION is fp32 or
int8 (dynamic). DEVICE=cuda measures on a GPU: PRECISION fp32 or fp16, BATCH rows, CUDA graphs with GRAPH=1.
"""

import os
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
from sentence_embedding import load_embedder
from torch import nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.choices import distinct, find_choices, random_sizes, to_plan
from edgefold.budget.latency_tables import LatencyTable, measure_plans
from edgefold.budget.onnxruntime_target import OnnxRuntimeTarget, Precision
from edgefold.dimensions import trace
from edgefold.plans import DropLayers, Plan, Step
from edgefold.structure.restructuring import restructure

MEASURED = int(os.environ.get("MEASURED", "12"))
PREDICTED = 10
PRECISION: Precision = os.environ.get("PRECISION", "fp32")  # type: ignore[assignment]
HOW: dict[str, Any] = {
    "device": os.environ.get("DEVICE", "cpu"),
    "batch": int(os.environ.get("BATCH", "1")),
    "cuda_graph": bool(os.environ.get("GRAPH")),
}
LIMIT = 0.1


def plans_of(
    teacher: nn.Module, inputs: dict[str, torch.Tensor], kept: tuple[int, ...], seed: int, count: int
) -> list[Plan]:
    """Random widths at one depth."""
    first: list[Step] = [DropLayers(keep=kept)] if len(kept) < 6 else []
    choices = find_choices(restructure(teacher, Plan(first), inputs).trace(inputs))
    return distinct((to_plan(choices, sizes, first) for sizes in random_sizes(choices, seed)), count)


@pytest.mark.slow
def test_predicted_against_measured(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    teacher = load_embedder()
    ids = torch.randint(1000, 30522, (2, 128), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert {each.family for each in find_choices(trace(teacher, inputs))} == {"hidden", "ffn", "heads"}
    depths = [tuple(range(6)), (1, 3, 5)]
    known, unknown = (
        list(chain(*(plans_of(teacher, inputs, kept, seed, count // 2) for kept in depths)))
        for seed, count in ((1, MEASURED), (2, PREDICTED))
    )
    measure = OnnxRuntimeTarget(teacher, tmp_path, PRECISION, sequence=128, threads=1, **HOW)
    key = {"teacher": "MiniLM-L6", "precision": PRECISION, **{name: str(value) for name, value in HOW.items()}}
    students = BlankStudents(teacher, inputs)
    table = measure_plans(students, [Plan([]), *known], measure, key=key, path=tmp_path / "table.json")
    model = table.fit()
    tested = measure_plans(students, unknown, measure, key=key)
    print(f"\n{PRECISION}, {HOW}, fitted to {len(table.entries)} plans, left out one by one: {model.median_error:.1%}")
    print({name: f"{value:.3g}" for name, value in model.coefficients.items() if value})
    errors = [_compare(table, tested, i, model.predict(entry.cost)) for i, entry in enumerate(tested.entries)]
    print(f"median error of {len(errors)} plans it had not seen: {median(errors):.1%}, largest {max(errors):.1%}")
    assert median(errors) < LIMIT


def _compare(table: LatencyTable, tested: LatencyTable, index: int, predicted: float) -> float:
    entry = tested.entries[index]
    measured = table.teacher_seconds * entry.timing.seconds / entry.timing.teacher_seconds
    steps = ", ".join(" ".join(map(str, next(iter(step.values())).values())) for step in entry.plan)
    error = predicted / measured - 1
    print(f"predicted {predicted * 1e3:6.2f} ms, measured {measured * 1e3:6.2f} ms, {error:+.1%}: {steps}")
    return abs(error)
