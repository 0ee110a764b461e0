"""Candidates cost what a pass of the budget's batch costs, and none is beyond the limit."""

import torch
from torch import nn

from edgefold.budget.candidates import explore_depths, propose
from edgefold.dimensions import trace


def test_candidates_cost_what_a_whole_batch_does() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 3)).eval()
    inputs = {"input": torch.randn(8, 6)}
    depths = explore_depths(module, trace(module, inputs), inputs, [inputs], [inputs])
    one, three = (propose(depths, lambda cost: float(cost.parameters), 200.0, batch) for batch in (1, 3))
    assert one
    assert all(each.plan.steps and each.cost.parameters <= 200 for each in one)
    assert [each.cost.macs for each in three] == [3 * each.cost.macs for each in one]
    assert [each.cost.weights for each in three] == [each.cost.weights for each in one]
