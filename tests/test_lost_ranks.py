"""Ranks are counted up to rounding, and a layer that lost its rank becomes a pair of the same function."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.folding import fold
from edgefold.lost_ranks import exact_rank, factorize_lost_ranks
from edgefold.penalties.nuclear_norm import threshold_singular_values
from edgefold.plans import Plan
from edgefold.student_building import build_student


def low(rows: int, columns: int, rank: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(rows + columns)
    left, right = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((rows, rank), (rank, columns))
    )
    return (left @ right).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "columns", "rank"), [(96, 64, 5), (64, 300, 40), (32, 32, 32), (16, 8, 0)])
def test_the_rank_is_counted_up_to_rounding(rows: int, columns: int, rank: int, dtype: torch.dtype) -> None:
    assert exact_rank(low(rows, columns, rank, dtype)) == rank


def test_what_the_nuclear_norm_leaves_is_of_exact_rank() -> None:
    weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
    sigma = torch.linalg.svdvals(weight)
    assert exact_rank(weight) == 64
    assert exact_rank(threshold_singular_values(weight, float(sigma[9] + sigma[10]) / 2)) == 10


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.full, self.high = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 64)
        self.first, self.tied = nn.Linear(64, 64), nn.Linear(64, 64)
        self.tied.weight = self.first.weight
        self.double()
        with torch.no_grad():
            self.low.weight.copy_(low(64, 64, 7))
            self.high.weight.copy_(low(64, 64, 30))
            self.first.weight.copy_(low(64, 64, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.tied(self.first(self.high(torch.relu(self.full(torch.relu(self.low(x)))))))


def test_pairs_only_where_they_are_faster() -> None:
    torch.manual_seed(0)
    model = Layers().double().eval()
    x = {"x": torch.randn(5, 64, dtype=torch.float64)}
    smaller: Any = factorize_lost_ranks(model, x)
    assert [tuple(p.shape) for p in smaller.low.parameters()] == [(8, 64), (64, 8), (64,)]
    assert all(type(getattr(smaller, name)) is nn.Linear for name in ("full", "high", "first", "tied"))
    assert smaller.tied.weight is smaller.first.weight
    torch.testing.assert_close(smaller(**x), model(**x), rtol=1e-12, atol=1e-10)
    assert type(model.low) is nn.Linear
    with torch.no_grad():
        model.low.weight.copy_(torch.eye(64))
    assert factorize_lost_ranks(model, x) is model


def test_a_module_that_reads_its_weights_itself_keeps_them() -> None:
    class Reading(Layers):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.low.weight)

    model = Reading().double().eval()
    assert factorize_lost_ranks(model, {"x": torch.randn(5, 64, dtype=torch.float64)}) is model


def test_the_fold_of_a_student_with_a_lost_rank(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    student = build_student(make_bert(hidden_size=48), Plan([]), text_batch(), [text_batch(8)])
    layer = student.module.bert.encoder.layer[1].intermediate.dense
    with torch.no_grad():
        layer.weight.copy_(low(40, 48, 4))
    plain: Any = fold(student)
    assert plain.bert.encoder.layer[1].intermediate.dense[0].out_features == 8
    assert type(plain.bert.encoder.layer[0].intermediate.dense) is nn.Linear
    torch.testing.assert_close(plain(**text_batch()).logits, student(**text_batch()).logits, rtol=1e-12, atol=1e-12)
    assert type(fold(student, keep_slow_pairs=True).bert.encoder.layer[1].intermediate.dense) is nn.Linear
    assert type(fold(student, remove_dead=False).bert.encoder.layer[1].intermediate.dense) is nn.Linear
