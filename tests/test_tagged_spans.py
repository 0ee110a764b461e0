"""Spans of BIO tags and their F1, by hand and by laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.scores.spans import are_bio, find_spans, span_f1

TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=8)


def test_spans_by_hand() -> None:
    assert find_spans(["B-X", "I-X", "O", "B-X"]) == {("X", 0, 2), ("X", 3, 4)}
    assert find_spans(["B-X", "B-X"]) == {("X", 0, 1), ("X", 1, 2)}
    assert find_spans(["I-X", "I-Y", "I-Y"]) == {("X", 0, 1), ("Y", 1, 3)}
    assert find_spans([]) == set()


@given(TAGS)
def test_spans_cover_the_tagged_words_once(tags: list[str]) -> None:
    covered = [word for _, start, end in find_spans(tags) for word in range(start, end)]
    assert sorted(covered) == [i for i, tag in enumerate(tags) if tag != "O"]


@given(st.lists(TAGS))
def test_what_is_right_scores_one(sentences: list[list[str]]) -> None:
    assert span_f1(sentences, sentences) == 1


def test_f1_by_hand() -> None:
    """One of two found spans is right, and one of three right ones was found: 2 / 5."""
    assert span_f1([["B-X", "O", "B-Y"]], [["B-X", "B-X", "I-X"]]) == pytest.approx(2 / 4)
    assert span_f1([["B-X", "B-X", "O", "O"]], [["B-X", "O", "B-Y", "B-Y"]]) == pytest.approx(2 / 5)
    assert span_f1([["O"]], [["B-X"]]) == 0


def test_which_tags_are_bio() -> None:
    assert are_bio(["O", "B-X", "I-X"])
    assert not are_bio(["O"])
    assert not are_bio(["DET", "B-X"])
    assert not are_bio(["B-", "O"])
