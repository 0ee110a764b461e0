"""The area under the curve against its definition by pairs; the rank correlation against scipy's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from edgefold.scores.rankings import area_under_curve, rank_correlation

ROWS = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=12)


@given(ROWS)
def test_it_is_the_share_of_pairs_in_order(rows: list[tuple[int, bool]]) -> None:
    scores, positive = [float(score) for score, _ in rows], [flag for _, flag in rows]
    pairs = [
        (a, b) for a, p in zip(scores, positive, strict=True) for b, q in zip(scores, positive, strict=True) if p > q
    ]
    expected = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs) if pairs else None
    assert area_under_curve(scores, positive) == (None if expected is None else pytest.approx(expected))


PAIRS = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), max_size=9)


@given(PAIRS)
def test_ranks_agree_as_in_spearman(pairs: list[tuple[int, int]]) -> None:
    first, second = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
    if len(set(first)) < 2 or len(set(second)) < 2:
        assert rank_correlation(first, second) is None
    else:
        assert rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
