"""Spans that BIO tags mark and their F1 (Ramshaw and Marcus, 1995; Tjong Kim Sang and Buchholz, 2000)."""

from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]
"""Kind, first word, and the word after the last."""


def are_bio(names: Iterable[str]) -> bool:
    """Whether every tag is O, B-kind or I-kind, and some begin a span."""
    names = list(names)
    return any(name.startswith("B-") for name in names) and all(
        name == "O" or (name[:2] in ("B-", "I-") and len(name) > 2) for name in names
    )


def find_spans(tags: Sequence[str]) -> set[Span]:
    """The spans of one sentence; an I- that continues no span of its kind begins one."""
    spans: set[Span] = set()
    kind, start = "", 0
    for position, tag in enumerate([*tags, "O"]):
        if kind and tag != f"I-{kind}":
            spans.add((kind, start, position))
            kind = ""
        if tag != "O" and not kind:
            kind, start = tag[2:], position
    return spans


def span_f1(predicted: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> float:
    """2 |P and R| / (|P| + |R|) over the spans of all sentences; 1 where neither has any."""
    pairs = [(find_spans(p), find_spans(r)) for p, r in zip(predicted, right, strict=True)]
    total = sum(len(p) + len(r) for p, r in pairs)
    return 2 * sum(len(p & r) for p, r in pairs) / total if total else 1.0
