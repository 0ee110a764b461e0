"""The area under the ROC curve; plain Python."""

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
