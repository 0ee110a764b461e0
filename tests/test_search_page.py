"""The page of a search stands alone, escapes what it shows, and draws every trial whose quality is known."""

import re
from pathlib import Path
from typing import Any

import pytest

from edgefold.budget.latency_tables import Timing
from edgefold.budget.search_page import render_search
from edgefold.budget.trials import SearchResult, Trial


def trial(name: str, share: float | None, timing: Timing | None = None) -> Trial:
    plan: list[dict[str, Any]] = [{"select": {"dimension": "ffn", "size": 64}}]
    figures: dict[str, Any] = {"damage": 0.1, "predicted_seconds": 2e-3, "parameters": 1000, "quality": 0.8}
    spent = None if timing is None else 2 * timing.seconds
    return Trial(name=name, plan=plan, epochs=1, learning_rate=1e-3, share=share, timing=timing, spent=spent, **figures)


@pytest.fixture
def result() -> SearchResult:
    measured = trial("full-1", 0.97, Timing(seconds=1e-3, teacher_seconds=2e-3))
    return SearchResult(
        budget="latency <5 ms",
        limit=5e-3,
        is_timed=True,
        keep=0.99,
        metric="accuracy",
        teacher_quality=0.9,
        teacher_seconds=4e-3,
        precision="fp32",
        batch=1,
        sequence=128,
        latency_error=0.02,
        rank_correlation=None,
        trials=[trial("short-1", 0.9), trial("short-2", None), measured],
        winner="full-1",
        met=False,
    )


def test_it_loads_nothing_and_escapes(result: SearchResult, tmp_path: Path) -> None:
    page = render_search(result, tmp_path / "search.html").read_text(encoding="utf-8")
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|https?:|\bsrc=|\bhref=|\bon\w+=", page)
    assert "latency <5 ms" not in page
    assert "latency &lt;5 ms" in page
    assert "missed" in page


def test_trials_stand_where_they_were_measured_or_are_predicted(result: SearchResult, tmp_path: Path) -> None:
    page = render_search(result, tmp_path / "search.html").read_text(encoding="utf-8")
    shown = {kind: page.count(f'<circle class="{kind}"') // 2 for kind in ("teacher", "student", "rival")}
    assert shown == {"teacher": 1, "student": 1, "rival": 1}  # of the second short trial no share is known
    assert "<td>2.00</td>" in page  # 1 ms beside a teacher of 2 ms, on a machine that gives the teacher 4 ms


def test_a_limit_that_is_no_time_is_not_drawn(result: SearchResult, tmp_path: Path) -> None:
    timed = render_search(result, tmp_path / "timed.html").read_text(encoding="utf-8")
    sized = result.model_copy(update={"is_timed": False, "limit": 1e6})
    other = render_search(sized, tmp_path / "sized.html").read_text(encoding="utf-8")
    assert timed.count('class="axis tail"') == 2 * other.count('class="axis tail"')
