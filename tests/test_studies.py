"""A study proposes every plan first, then draws; begun again on its file it goes on where it was."""

from pathlib import Path

import pytest

from edgefold.budget.studies import RATES, Study, Suggestion
from edgefold.errors import InputError
from edgefold.plans import Plan, Select

PLANS = [Plan([Select("ffn", size)]) for size in (64, 32, 16)]


def told(study: Study, numbers: range) -> list[Suggestion]:
    """Asks and tells; a plan is the better the earlier, a rate the better the nearer to 2."""
    found = []
    for number in numbers:
        suggestion = study.ask(number)
        study.tell(suggestion, 1 - 0.2 * suggestion.plan - abs(suggestion.rate - 2) / 10, 1e-3)
        found.append(suggestion)
    return found


def test_every_plan_comes_first_at_the_rate_of_the_recipe_and_draws_stay_in_their_range(tmp_path: Path) -> None:
    found = told(Study(tmp_path / "trials.db", PLANS, 0), range(12))
    assert [(each.plan, each.rate) for each in found[:3]] == [(0, 1.0), (1, 1.0), (2, 1.0)]
    assert all(RATES[0] <= each.rate <= RATES[1] for each in found)
    assert len({each.rate for each in found[3:]}) == 9
    assert sum(each.plan == 0 for each in found[3:]) > 9 / 3  # more than by chance


def test_a_study_that_was_stopped_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    before = told(Study(path, PLANS, 0), range(4))
    begun = Study(path, PLANS, 0).ask(4)  # and killed before anything came of it
    again = Study(path, PLANS, 0)
    assert [again.ask(number) for number in range(4)] == before
    assert again.ask(4) == begun
    again.tell(begun, None, 1e-3)
    assert again.ask(5).number == 5


def test_other_plans_are_another_study(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    told(Study(path, PLANS, 0), range(3))
    assert Study(path, PLANS[:2], 0).ask(0) == Suggestion(0, 0, 1.0)


def test_a_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    path.write_text("mine, and no database at all" * 100)
    with pytest.raises(InputError, match="is no study that optuna can read"):
        Study(path, PLANS, 0)
    assert path.read_text().startswith("mine")
