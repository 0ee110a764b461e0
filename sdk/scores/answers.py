"""Exact match and F1 of an answer against those that are right (Rajpurkar et al., 2016); plain Python."""

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def answer_words(text: str) -> list[str]:
    """What of an answer is compared: its words in lower case, without punctuation and articles."""
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def exact_match(answer: str, right: Sequence[str]) -> float:
    """1 where the words are those of a right answer, else 0; without right answers only the empty answer is right."""
    return float(any(answer_words(answer) == answer_words(other) for other in right or ("",)))


def word_f1(answer: str, right: Sequence[str]) -> float:
    """The largest F1 of the words in common with a right answer, 2 c / (n + m), each word as often as it occurs."""
    return max(_f1(answer_words(answer), answer_words(other)) for other in right or ("",))


def _f1(found: Sequence[str], right: Sequence[str]) -> float:
    if not found or not right:
        return float(found == right)
    common = (Counter(found) & Counter(right)).total()
    return 2 * common / (len(found) + len(right))
