"""The area under the curve against its definition by pairs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.ranking_scores import area_under_curve

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=12)


@given(ROWS)
def test_it_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, positive = [float(score) for score, _ in rows], [flag for _, flag in rows]
    pairs = [
        (a, b) for a, p in zip(scores, positive, strict=True) for b, q in zip(scores, positive, strict=True) if p > q
    ]
    expected = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs) if pairs else None
    assert area_under_curve(scores, positive) == (None if expected is None else pytest.approx(expected))
