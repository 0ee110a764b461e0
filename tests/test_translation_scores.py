"""chrF against figures of sacrebleu 2.6.0, and its laws."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgefold.scores.translations import chrf

TEXTS = st.lists(st.text("abc ", max_size=12), min_size=1, max_size=4)


def test_sacrebleus_figure() -> None:
    """CHRF().corpus_score(..).score is 43.365081913521136."""
    translations = ["The cat sat on the mat.", "A joy", "", "Über den Wolken"]
    references = ["The cat is on the mat", "Joy to the world", "nothing here", "Unter den Wolken"]
    assert chrf(translations, references) == pytest.approx(0.43365081913521136, abs=1e-12)


@given(TEXTS)
def test_a_right_translation_scores_one(texts: list[str]) -> None:
    assert chrf(texts, texts) == (1.0 if any(text.split() for text in texts) else 0.0)


@given(TEXTS, st.data())
def test_scores_lie_between_zero_and_one_whatever_the_blanks(texts: list[str], data: st.DataObject) -> None:
    others = [data.draw(st.text("abc ", max_size=12)) for _ in texts]
    score = chrf(texts, others)
    assert 0 <= score <= 1
    assert chrf([" ".join(text) for text in texts], others) == score


def test_recall_counts_more_than_precision() -> None:
    assert chrf(["abcdefgh"], ["abcdef"]) > chrf(["abcdef"], ["abcdefgh"])
