"""Word error rate, by hand and by the laws of a distance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.scores.word_errors import edit_distance, spoken_words, word_error_rate

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)


def test_by_hand() -> None:
    assert spoken_words("It's 5 o'clock!") == ["it's", "5", "o'clock"]
    assert edit_distance(list("kitten"), list("sitting")) == 3
    assert word_error_rate(["The cat sat", "a joy"], ["the black cat sat.", "A joy!"]) == pytest.approx(1 / 6)
    assert word_error_rate(["one two three four"], ["five"]) == 4
    assert word_error_rate([""], ["!"]) == 0
    assert word_error_rate(["a"], ["!"]) == float("inf")


@given(WORDS, WORDS, WORDS)
def test_the_edit_distance_is_a_distance(a: list[str], b: list[str], c: list[str]) -> None:
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)
    assert abs(len(a) - len(b)) <= edit_distance(a, b) <= max(len(a), len(b))
