"""Steps refuse what can never be right, and a plan's plain form makes the same plan again."""

from collections.abc import Callable
from typing import Any

import pytest

from edgefold.errors import InputError
from edgefold.plans import STEPS, Bottleneck, DropLayers, LowRank, Plan, Project, Select, ShareLayers


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRank("a"), r"LowRank\('a', rank=None, energy=None\) needs exactly one of rank and energy"),
        (lambda: LowRank("a", 4, 0.9), r"rank=4, energy=0.9\) needs exactly one of rank and energy"),
        (lambda: LowRank("a", energy=1.5), r"energy=1.5\) must be a share above 0 and at most 1, such as 0.95"),
        (lambda: LowRank("a", energy=0), r"energy=0\) must be a share above 0"),
        (lambda: LowRank("a", energy=0.9, multiple_of=0), r"multiple_of=0\) must be a whole number of at least 1"),
        (lambda: DropLayers(), r"keep=None, every=None\) needs exactly one of keep and every"),
        (lambda: DropLayers((0,), 2), r"keep=\(0,\), every=2\) needs exactly one of keep and every"),
        (lambda: DropLayers(()), r"keep=\(\)\) must name at least one layer"),
        (lambda: DropLayers((2, 1)), r"keep=\(2, 1\)\) must name .* ascending order"),
        (lambda: DropLayers((1, 1)), r"keep=\(1, 1\)\) must name .* ascending order"),
        (lambda: DropLayers((-1, 1)), r"keep=\(-1, 1\)\) must name .* indices from 0"),
        (lambda: DropLayers(every=0), r"every=0\) must be a whole number of at least 1"),
        (lambda: ShareLayers(0), r"groups=0\) must be a whole number of at least 1"),
        (lambda: ShareLayers(start="last"), r"start='last'\) is not known; choose mean or first"),
        (lambda: Bottleneck(0), r"size=0\) must be a whole number of at least 1"),
        (lambda: Bottleneck(4, activation="sine"), r"'sine'\) is not known; choose one of gelu, relu, silu"),
        (lambda: Plan(["drop"]), r"consists of steps \(Project, Select, LowRank, DropLayers, .*\); got 'drop'"),
    ],
)
def test_refusals(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(("every", "kept"), [(1, (0, 1, 2, 3, 4)), (2, (1, 3)), (3, (2,)), (6, ())])
def test_every_nth_layer_is_the_last_of_its_run(every: int, kept: tuple[int, ...]) -> None:
    assert DropLayers(every=every).kept(5) == kept


def test_the_plain_form_makes_the_same_steps() -> None:
    steps = [Project("hidden", 8), Select("ffn", 4), LowRank("a", 2), LowRank("b", energy=0.9), DropLayers([0, 2])]
    steps += [ShareLayers(2, start="first"), Bottleneck(4, residual=False)]
    again = [STEPS[key](**fields) for entry in Plan(steps).to_dicts() for key, fields in entry.items()]
    assert again == steps
