"""Costs counted on a teacher's graph at other sizes are those of the student that is built at these sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.costs import CostCounter
from edgefold.dimensions import trace
from edgefold.plans import DropLayers, LowRank, Plan, Project, Select

PLANS = {
    "narrow": [Project("hidden", 16), Select("ffn", 24), Select("heads", 2)],
    "uneven": [Select("ffn.0", 8), Select("heads.1", 1)],
    "shallow": [DropLayers(every=2), Select("ffn", 16)],
    "low rank": [LowRank("intermediate", 4), LowRank("*.output.dense", 4)],
    "low rank and narrow": [Project("hidden", 16), LowRank("intermediate", 4)],
}


@pytest.mark.parametrize("name", PLANS)
def test_predicted_costs_are_those_of_the_built_student(
    name: str, make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    inputs = text_batch(4, 9)
    student = BlankStudents(make_bert(), inputs, batch=3).build(Plan(PLANS[name]))
    assert student.cost == CostCounter(trace(student.module, inputs), batch=3).count()
    assert student.cost.parameters == sum(parameter.numel() for parameter in student.module.parameters())


def test_multiply_adds_of_a_layer_by_hand() -> None:
    graph = trace(nn.Sequential(nn.Linear(8, 24), nn.GELU(), nn.Linear(24, 5)), {"input": torch.randn(2, 7, 8)})
    cost = CostCounter(graph).count()
    assert cost.macs == 7 * (8 * 24 + 24 * 5)
    assert cost.weights == 8 * 24 + 24 * 5
    assert cost.values == 7 * (24 + 24 + 5)
    assert (cost.pair_macs, cost.operators) == (0, 3)


class Attention(nn.Module):
    """One head by elementary operators."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return torch.matmul(torch.softmax(torch.matmul(q, k.transpose(1, 2)), -1), v)


class FusedAttention(nn.Module):
    """The same by the fused operator."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v)


@pytest.mark.parametrize("module", [Attention(), FusedAttention()])
def test_attention_costs_both_of_its_products(module: nn.Module) -> None:
    q, k, v = torch.randn(2, 5, 8), torch.randn(2, 7, 8), torch.randn(2, 7, 6)
    cost = CostCounter(trace(module, {"q": q, "k": k, "v": v})).count()
    assert cost.pair_macs == 5 * 7 * (8 + 6)
    assert cost.macs == 0


def test_views_cost_nothing_and_rows_count_as_often_as_they_come() -> None:
    class Views(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.transpose(1, 2).reshape(x.shape[0], -1)[:, 2:].unsqueeze(1).exp()

    graph = trace(Views(), {"x": torch.randn(2, 3, 4)})
    one, three = (CostCounter(graph, batch=batch).count() for batch in (1, 3))
    assert (one.values, one.operators) == (10, 1)
    assert (three.values, three.operators) == (30, 1)


@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.LSTM, 4), (nn.RNN, 1)])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrent_layer_multiplies_all_of_its_matrices_in_each_step(kind: Any, gates: int, directions: int) -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cells = kind(4, 16, 2, batch_first=True, bidirectional=directions == 2)
            self.out = nn.Linear(16 * directions, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.cells(x)[0][:, -1])

    graph = trace(Last().eval(), {"x": torch.randn(2, 7, 4)})

    def expected(hidden: int) -> float:
        per_direction = gates * hidden * (4 + hidden + directions * hidden + hidden)
        return 7 * directions * per_direction + 3 * hidden * directions

    assert sum(read.macs for read in graph.reads) == 2 * expected(16)
    assert CostCounter(graph).count().macs == expected(16)
    (hidden,) = [d.name for d in graph if d.size == 16 and d.kind != "fixed"]
    assert CostCounter(graph).count({hidden: 8}).macs == expected(8)
