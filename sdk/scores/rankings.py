"""Scores of rankings: the area under the ROC curve, and how far two rows of numbers agree; plain Python."""

from collections.abc import Sequence


def area_under_curve(scores: Sequence[float], is_positive: Sequence[bool]) -> float | None:
    """The share of pairs of a positive and a negative whose positive has the greater score; ties count a half.

    None where one of the two kinds is missing. By ranks (Mann and Whitney, 1947).
    """
    order = sorted(range(len(scores)), key=scores.__getitem__)
    rank_sum, start = 0.0, 0
    while start < len(order):
        stop = start
        while stop < len(order) and scores[order[stop]] == scores[order[start]]:
            stop += 1
        rank_sum += (start + 1 + stop) / 2 * sum(is_positive[i] for i in order[start:stop])
        start = stop
    positives = sum(is_positive)
    pairs = positives * (len(scores) - positives)
    return (rank_sum - positives * (positives + 1) / 2) / pairs if pairs else None


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's: Pearson's correlation of the ranks, ties having their mean; None where one of them never varies."""
    return correlation(_ranks(first), _ranks(second))


def correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Pearson's; None where one of them never varies."""
    means = [sum(each) / len(each) for each in (first, second) if len(each)]
    centred = [[value - mean for value in each] for each, mean in zip((first, second), means, strict=False)]
    norms = [sum(value * value for value in each) ** 0.5 for each in centred]
    if len(centred) < 2 or not all(norms):
        return None
    product = float(sum(a * b for a, b in zip(*centred, strict=True)))
    return product / float(norms[0] * norms[1])


def _ranks(values: Sequence[float]) -> list[float]:
    first, last = dict[float, int](), dict[float, int]()
    for place, value in enumerate(sorted(values), 1):
        first.setdefault(value, place)
        last[value] = place
    return [(first[value] + last[value]) / 2 for value in values]
