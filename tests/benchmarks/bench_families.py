"""Every family under every plan that its dimensions allow: how it is built, the fold's error, what is left, seconds.

make bench ARGS="-k families" prints the table; a plan halves every dimension of one kind and name, or all of them.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from families import FAMILIES, make
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import DimensionGraph, trace
from edgefold.errors import InputError
from edgefold.folding import fold
from edgefold.plans import Plan, Project, Select
from edgefold.student_building import build_student
from edgefold.students import Student


def plans(graph: DimensionGraph) -> Iterator[tuple[str, list[Any]]]:
    free = [d for d in graph if d.kind != "fixed" and d.size > 1]
    for family, kind in dict.fromkeys((d.name.split(".")[0], d.kind) for d in free):
        chosen = [d for d in free if (d.name.split(".")[0], d.kind) == (family, kind)]
        yield f"{family} ({kind})", [halve(d) for d in chosen]
    yield "all of these", [halve(d) for d in free]


def halve(dimension: Any) -> Project | Select:
    return (Project if dimension.kind == "linear" else Select)(dimension.name, dimension.size // 2)


def first(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return next(leaf for leaf in tree_leaves(model(**inputs)) if isinstance(leaf, Tensor))


def built_by(student: Student) -> str:
    if isinstance(student.module, GraphModule):
        return "traced graph"
    return "configuration" if student.structure.is_uniform else "attributes"


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
