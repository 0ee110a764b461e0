"""A student whose weights mean nothing: what a latency is measured with before anything is calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgefold.budget.costs import Cost, CostCounter
from edgefold.dimensions import check_inputs
from edgefold.low_rank import factorize, find_factor_pairs
from edgefold.plans import LowRank, Plan
from edgefold.resizing import resize_module
from edgefold.restructuring import restructure
from edgefold.student_building import resolve_sizes


@dataclass(frozen=True)
class BlankStudent:
    """The student's architecture with arbitrary weights, and what it costs."""

    module: nn.Module
    cost: Cost


def blank_student(teacher: nn.Module, plan: Plan, inputs: Mapping[str, Tensor], batch: int = 1) -> BlankStudent:
    """Build what `build_student` would build, without calibration; masks and bottlenecks are left out.

    Args:
        inputs: as for `build_student`, of the shape that the cost is about but for the rows.
        batch: rows of the cost.

    Raises:
        InputError: as `build_student`.
    """
    check_inputs(inputs)
    reduced = restructure(teacher, plan, inputs)
    graph = reduced.trace(inputs)
    resized = resize_module(reduced.unshared, graph, inputs, resolve_sizes(graph, plan))
    reduced.share_in(resized.module)
    pairs = find_factor_pairs(resized.module, [step for step in plan.steps if isinstance(step, LowRank)])
    for pair in pairs:
        factorize(resized.module, pair)
    ranks = {f"{pair.module}.weight": pair.rank for pair in pairs}
    return BlankStudent(resized.module.eval(), CostCounter(graph, batch).count(resized.sizes, ranks))
