"""Rows are told apart only where there are many, few of them are used, and no projection mixes them."""

import torch

from edgefold.resizing.layouts import Factor
from edgefold.table_rows import LARGE, row_layout, used_rows

TABLE = ((Factor("vocab", LARGE),), (Factor("hidden", 4),))


def gradient_of(*rows: int, size: int = LARGE) -> torch.Tensor:
    gradient = torch.zeros(size, 4)
    gradient[list(rows)] = 1.0
    return gradient


def test_used_rows_are_those_with_a_gradient() -> None:
    rows = used_rows(gradient_of(3, 900), TABLE, {"hidden"})
    assert rows is not None
    assert rows.tolist() == [3, 900]
    assert row_layout(TABLE, 2) == ((Factor("vocab", 2),), (Factor("hidden", 4),))


def test_all_rows_are_taken_where_telling_them_apart_does_not_pay_or_is_wrong() -> None:
    assert used_rows(gradient_of(*range(600)), TABLE, {"hidden"}) is None
    assert used_rows(gradient_of(3, size=10), TABLE, {"hidden"}) is None
    assert used_rows(gradient_of(3), TABLE, {"vocab"}) is None
    product = ((Factor("heads", 32), Factor("head_dim", LARGE // 32)), (Factor("hidden", 4),))
    assert used_rows(gradient_of(3), product, {"hidden"}) is None
    assert used_rows(gradient_of(3)[:, 0], TABLE[:1], {"hidden"}) is None
