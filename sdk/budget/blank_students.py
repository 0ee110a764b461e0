"""Students whose weights mean nothing: what a latency is measured with before anything is calibrated."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgefold.budget.costs import Cost, CostCounter
from edgefold.dimensions import DimensionGraph, check_inputs
from edgefold.low_rank import factorize, find_factor_pairs
from edgefold.plans import DropLayers, LowRank, Plan, ShareLayers
from edgefold.resizing.modules import resize_module
from edgefold.structure.restructuring import Restructured, restructure
from edgefold.student_building import resolve_sizes


@dataclass(frozen=True)
class BlankStudent:
    """The student's architecture with arbitrary weights, and what it costs."""

    module: nn.Module
    cost: Cost


class BlankStudents:
    """The blank students of one teacher, which is traced once for all plans that leave it the same layers.

    Args:
        inputs: as for `build_student`, of the shape that the cost is about but for the rows.
        batch: rows of the cost.
        graph: of the teacher, where it has been traced already.
    """

    def __init__(
        self, teacher: nn.Module, inputs: Mapping[str, Tensor], batch: int = 1, graph: DimensionGraph | None = None
    ) -> None:
        check_inputs(inputs)
        self.inputs = inputs
        self._teacher, self._batch = teacher, batch
        self._traced = {} if graph is None else {"[]": (Restructured(teacher, teacher), graph)}

    def build(self, plan: Plan) -> BlankStudent:
        """What `build_student` would build, without calibration; masks and bottlenecks are left out.

        Raises:
            InputError: as `build_student`.
        """
        reduced, graph = self._restructured(plan)
        resized = resize_module(reduced.unshared, graph, self.inputs, resolve_sizes(graph, plan))
        reduced.share_in(resized.module)
        pairs = find_factor_pairs(resized.module, [step for step in plan.steps if isinstance(step, LowRank)])
        for pair in pairs:
            factorize(resized.module, pair)
        ranks = {f"{pair.module}.weight": pair.rank for pair in pairs}
        return BlankStudent(resized.module.eval(), CostCounter(graph, self._batch).count(resized.sizes, ranks))

    def _restructured(self, plan: Plan) -> tuple[Restructured, DimensionGraph]:
        layers = str([step for step in plan.steps if isinstance(step, DropLayers | ShareLayers)])
        if layers not in self._traced:
            reduced = restructure(self._teacher, plan, self.inputs)
            self._traced[layers] = reduced, reduced.trace(self.inputs)
        return self._traced[layers]
