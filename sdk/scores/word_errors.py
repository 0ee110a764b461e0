"""Word error rate of transcripts (Levenshtein, 1966); plain Python."""

import re
from collections.abc import Sequence


def word_error_rate(transcripts: Sequence[str], references: Sequence[str]) -> float:
    """Insertions, deletions and replacements of words over the words of all references; may exceed 1.

    Words are compared in lower case without punctuation, apostrophes kept. Without any reference word, 0 where nothing
    was transcribed either, else infinite.
    """
    pairs = [(spoken_words(t), spoken_words(r)) for t, r in zip(transcripts, references, strict=True)]
    errors, words = sum(edit_distance(*pair) for pair in pairs), sum(len(right) for _, right in pairs)
    return errors / words if words else (float("inf") if errors else 0.0)


def spoken_words(text: str) -> list[str]:
    """Of "It's 5 o'clock!": it's, 5, o'clock."""
    return re.findall(r"[\w']+", text.lower())


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements that make b of a."""
    row = list(range(len(b) + 1))
    for i, left in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, right in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]
