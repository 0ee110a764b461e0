"""Families that edgefold was never told about: each halved along all that it allows, folded, saved, opened, exported.

`make bench ARGS="-k unnamed"` prints a row for each: how its student was built, what is left of the parameters, the
error of the student when it is opened again (in units of the largest output) and of its ONNX graph; or what was
refused, and why. Training is stood in for by moving every weight. `FAMILIES=qwen3,swin` runs some of them.
"""

import os
from pathlib import Path

import pytest
import torch
from family_plans import built_by, first, plans
from torch import nn
from unnamed_families import FAMILIES, make_inputs, make_model

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import trace
from edgefold.errors import EdgefoldError
from edgefold.exporters import export_onnx
from edgefold.folding import fold
from edgefold.plans import Plan
from edgefold.student_building import build_student

pytestmark = pytest.mark.filterwarnings("ignore")
LIMIT = 1e-4
CHOSEN = os.environ.get("FAMILIES", "").split(",") if "FAMILIES" in os.environ else FAMILIES


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", CHOSEN)
def test_unnamed_families(name: str, tmp_path: Path) -> None:
    model, inputs = make_model(FAMILIES[name]), make_inputs(FAMILIES[name].reads)
    row, step = f"| {name} ", "trace"
    try:
        graph = trace(model, inputs)
        step = "build"
        plan = Plan(dict(plans(graph))["all of these"])
        student = build_student(model, plan, inputs, [inputs], "all", graph=graph)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        plain = fold(student)
        opened = load_student(save_student(plain, tmp_path / "student"))
        expected = first(plain, inputs)
        error = float((first(opened, inputs) - expected).abs().max() / expected.abs().max())
        row += f"| {built_by(student)} | {size(model):,} → {size(plain):,} | {error:.0e} "
        step = "export"
        row += f"| {export_onnx(plain, inputs, tmp_path / 'onnx').lineage['parity']['fp32']:.0e} |"
    except EdgefoldError as refusal:
        print(f"\n{row}| refused ({step}): {' '.join(str(refusal).split())[:160]} |", flush=True)
        return
    print(f"\n{row}", flush=True)
    assert error <= LIMIT
