"""Candidates whose blank students were measured: whether a plan meets its budget is known before anything is trained.

A latency model is right within some percent for plans like those it was fitted to. Small students are unlike most
random plans, and what is asked for is an edge: so the candidates are measured, the model is fitted anew with them, and
they are chosen again, a few times.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgefold.budget.candidates import Candidate, Depth, propose, varied
from edgefold.budget.even_candidates import even_candidate
from edgefold.budget.latency_models import LatencyModel
from edgefold.budget.latency_tables import LatencyTable, Timing
from edgefold.plans import Plan

ROUNDS = 4
AIM = 0.98
"""Of the budget: two measurements of one student differ by a percent or two."""
MOST_OFF = 1.5
"""Of a prediction, up or down, that is corrected by what was measured: one measurement may be disturbed."""
WIDTH = 0.93
"""Of the budget; a candidate that uses less could be larger."""
MeasurePlans = Callable[[Sequence[Plan], int], LatencyTable]
"""measure(plans, round) -> the table with these plans, each measured once in all."""


@dataclass(frozen=True)
class Selection:
    """The plans to be trained, and what they were chosen by."""

    candidates: list[Candidate]
    table: LatencyTable
    model: LatencyModel

    def timing(self, candidate: Candidate) -> Timing | None:
        """As measured before any training; None where no clock decided."""
        try:
            return self.table.entry(candidate.plan).timing
        except KeyError:
            return None


@dataclass(frozen=True)
class _Measured:
    candidate: Candidate
    used: float
    """Of the budget."""
    is_even: bool


def choose_measured(
    depths: Sequence[Depth],
    table: LatencyTable,
    measure: MeasurePlans,
    limit_of: Callable[[float], float],
    count: int,
    batch: int = 1,
) -> Selection:
    """Different plans that were measured to meet the budget, of least estimated damage, and last the even one.

    Where none was, those that came nearest; empty where none is thought to be within it at all.

    Args:
        depths: the whole one first.
        table: the plans drawn at random, in round 0; what a later round decides does not hang on measurements after it,
            so that a search that goes on chooses what it chose before.
        limit_of: the seconds that are allowed, by those of the teacher.
        batch: rows of a pass.
    """
    found: dict[str, _Measured] = {}
    others: list[Candidate] = []
    even: Candidate | None = None
    for number in range(1, ROUNDS + 1):
        limit = limit_of(table.teacher_seconds)
        model = table.fit(limit)
        aim_of_even = _aim(table, model, [] if even is None else [even]) * limit
        aim = _aim(table, model, others) * limit
        even = even_candidate(depths[0], model.predict, aim_of_even, batch) if count > 1 else None
        proposed = propose(depths, model.predict, aim, batch)
        others = varied(
            [each for each in proposed if even is None or each.plan.to_dicts() != even.plan.to_dicts()],
            count - (even is not None),
        )
        tried = [*others, *([even] if even is not None else [])]
        if not tried:
            break
        table = measure([each.plan for each in tried], number)
        is_new = any(str(each.plan) not in found for each in tried)
        for each in tried:
            used = table.seconds(table.entry(each.plan)) / limit
            found[str(each.plan)] = _Measured(each, used, each is even)
        if not is_new or all(WIDTH <= found[str(each.plan)].used <= 1 for each in tried):
            break
    return Selection(_best(list(found.values()), count), table, table.fit(limit_of(table.teacher_seconds)))


def _aim(table: LatencyTable, model: LatencyModel, last: Sequence[Candidate]) -> float:
    """The share of the budget that the next ones are to use by a model which is off for the last ones as it is now."""
    off = [table.seconds(table.entry(each.plan)) / model.predict(each.cost) for each in last]
    return AIM / min(max(max(off, default=1.0), 1 / MOST_OFF), MOST_OFF)


def _best(found: Sequence[_Measured], count: int) -> list[Candidate]:
    """Of those within the budget the even one that uses most of it, and of the others those of least damage."""
    within = [each for each in found if each.used <= 1]
    if not within:
        within = sorted(found, key=lambda each: each.used)[:count]
    evens = sorted((each for each in within if each.is_even), key=lambda each: -each.used)[:1]
    others = sorted((each.candidate for each in within if not each.is_even), key=lambda each: each.damage)
    return [*varied(others, count - len(evens)), *(each.candidate for each in evens)]
