"""What becomes of one model: halved along all that it allows, its weights moved, folded, saved, opened, exported."""

from pathlib import Path

import torch
from family_plans import built_by, first, plans
from torch import Tensor, nn

from edgefold.checkpoints import load_student, save_student
from edgefold.dimensions import trace
from edgefold.errors import EdgefoldError
from edgefold.exporters import export_onnx
from edgefold.folding import fold
from edgefold.plans import Plan
from edgefold.student_building import build_student


def survey(
    name: str, model: nn.Module, inputs: dict[str, Tensor], folder: Path, *, saves_graph: bool = False
) -> float | None:
    """Prints a row of a table: how the student was built, what is left of the parameters, the error of the student
    when it is opened again (in units of the largest output) and of its ONNX graph; or what was refused, and why.

    Args:
        saves_graph: whether the student is saved as a traced graph too, as a module is that no configuration describes.

    Returns the error of the opened student; None where something was refused.
    """
    row, step, error = f"| {name} ", "trace", None
    try:
        graph = trace(model, inputs)
        step = "build"
        plan = Plan(dict(plans(graph))["all of these"])
        student = build_student(model, plan, inputs, [inputs], "all", graph=graph)
        with torch.no_grad():
            for parameter in student.parameters():  # little, as deep networks of random weights grow chaotic
                parameter.add_((0.01 + 0.1 * parameter.abs().mean()) * torch.randn_like(parameter))
        plain = fold(student)
        row += f"| {built_by(student)} | {_size(model):,} → {_size(plain):,} "
        step = "save"
        opened = load_student(save_student(plain, folder / "student", inputs=inputs if saves_graph else None))
        expected = first(plain, inputs)
        error = float((first(opened, inputs) - expected).abs().max() / expected.abs().max())
        row += f"| {error:.0e} "
        step = "export"
        row += f"| {export_onnx(plain, inputs, folder / 'onnx').lineage['parity']['fp32']:.0e} |"
    except EdgefoldError as refusal:
        print(f"\n{row}| refused ({step}): {' '.join(str(refusal).split())[:160]} |", flush=True)
        return None
    print(f"\n{row}", flush=True)
    return error


def _size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
