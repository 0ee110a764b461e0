"""Plans that halve what a family's dimensions allow, and what its students are asked."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.utils._pytree import tree_leaves

from edgefold.dimensions import DimensionGraph
from edgefold.plans import Project, Select
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
