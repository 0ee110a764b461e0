"""Every family under every plan that its dimensions allow: how it is built, the fold's error, what is left, seconds.

make bench ARGS="-k families" prints the table; a plan halves every dimension of one kind and name, or all of them.
"""

import time

import pytest
import torch
from families import FAMILIES, make
from family_plans import built_by, first, plans

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import Plan
from edgefold.student_building import build_student


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name: str) -> None:
    model, inputs = make(name)
    begun = time.perf_counter()
    graph = trace(model, inputs)
    print(f"\n{name}: traced in {time.perf_counter() - begun:.1f} s")
    for plan, steps in plans(graph):
        begun = time.perf_counter()
        try:
            student = build_student(model, Plan(steps), inputs, [inputs], "all", graph=graph)
        except InputError as error:
            print(f"  {plan:24} refused: {error}")
            continue
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        expected, plain = first(student, inputs), fold(student)
        error = float((first(plain, inputs) - expected).abs().max() / expected.abs().max())
        sizes = [sum(p.numel() for p in module.parameters()) for module in (model, plain)]
        seconds = time.perf_counter() - begun
        print(f"  {plan:24} {built_by(student):14} fold {error:.0e}  {sizes[0]:,} -> {sizes[1]:,}  {seconds:.1f} s")
        assert error <= 1e-10
