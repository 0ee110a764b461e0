"""chrF: the F-score of the character n-grams that translations share with their references; plain Python."""

from collections import Counter
from collections.abc import Sequence

ORDERS = range(1, 7)
BETA = 2.0
"""How many times recall counts as much as precision."""


def chrf(translations: Sequence[str], references: Sequence[str]) -> float:
    """(1 + b^2) P R / (b^2 P + R), from 0 to 1 (chrF2; Popovic, 2015, 2016).

    P and R are the shares of the translations' (references') character n-grams that are matched in the other, counted
    over all pairs, and averaged over n = 1 ... 6 as far as both have such n-grams. Blanks are left out, and so are
    the n-grams of a translation whose reference is shorter than n.
    """
    totals = [[0, 0, 0] for _ in ORDERS]
    for translation, reference in zip(translations, references, strict=True):
        for total, order in zip(totals, ORDERS, strict=True):
            found, right = _ngrams(translation, order), _ngrams(reference, order)
            total[0] += found.total() if right else 0
            total[1] += right.total()
            total[2] += (found & right).total()
    counted = [(common / found, common / right) for found, right, common in totals if found and right]
    if not counted:
        return 0.0
    precision, recall = (sum(values) / len(counted) for values in zip(*counted, strict=True))
    weighted = BETA**2 * precision + recall
    return (1 + BETA**2) * precision * recall / weighted if weighted else 0.0


def _ngrams(text: str, order: int) -> Counter[str]:
    letters = "".join(text.split())
    return Counter(letters[i : i + order] for i in range(len(letters) - order + 1))
