"""Exact match and F1 of answers, by hand and by laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.scores.answers import answer_words, exact_match, word_f1


def test_by_hand() -> None:
    assert answer_words("The cat's  Pyjamas, a hat!") == ["cats", "pyjamas", "hat"]
    assert exact_match("The cat.", ["dog", "cat"]) == 1
    assert exact_match("cats", ["cat"]) == 0
    assert word_f1("a black cat", ["the black dog"]) == pytest.approx(0.5)
    assert word_f1("black black cat", ["black dog"]) == pytest.approx(2 / 5)
    assert word_f1("cat", ["dog", "the cat sat"]) == pytest.approx(2 / 3)


def test_without_right_answers_only_none_is_right() -> None:
    assert (exact_match("", []), word_f1("", [])) == (1, 1)
    assert (exact_match("cat", []), word_f1("cat", [])) == (0, 0)
    assert (exact_match("", ["cat"]), word_f1("", ["cat"])) == (0, 0)


@given(st.text(), st.text())
def test_f1_is_symmetric_and_an_exact_match_has_one(a: str, b: str) -> None:
    assert word_f1(a, [b]) == word_f1(b, [a])
    assert 0 <= word_f1(a, [b]) <= 1
    assert word_f1(a, [a]) == exact_match(a, [a]) == 1
