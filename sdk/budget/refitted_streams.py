"""How much of a projection's damage the sequential start takes back, which `estimate_damage` leaves out of account."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from edgefold.budget.choices import Choices
from edgefold.budget.damage import Damage, Judge
from edgefold.calibration import Batch
from edgefold.dimensions import DimensionGraph
from edgefold.plans import Plan
from edgefold.student_building import build_student

TRIED = (0.5, 0.25)
"""Shares of a dimension at which a student is started; what is left is taken as linear in the size between them."""

Shares = Mapping[str, Mapping[int, float]]
"""Dimension -> size -> the share of the estimated damage that is left after the start."""


def left_after_start(
    teacher: nn.Module,
    choices: Sequence[Choices],
    damage: Damage,
    inputs: Mapping[str, Tensor],
    calibration: Sequence[Batch],
    judge: Judge,
    graph: DimensionGraph,
) -> Shares:
    """Start a student at two sizes of every linear dimension, and compare what it misses with the estimate.

    Without this a projection would look worse beside selections, whose estimates are after their least squares.
    """
    found: dict[str, dict[int, float]] = {}
    for each in choices:
        if each.kind != "linear":
            continue
        *cut, own = each.sizes
        anchors = sorted({min(cut, key=lambda size: abs(size - share * own)) for share in TRIED})
        shares = {}
        for size in anchors:
            student = build_student(teacher, Plan([each.step(size)]), inputs, calibration, graph=graph)
            estimate = damage[each.dimension][size]
            shares[size] = min(1.0, judge.missed_by(student.eval()) / estimate) if estimate > 0 else 1.0
        found[each.dimension] = {size: _at(shares, size) for size in cut} | {own: 1.0}
    return found


def with_starts(damage: Damage, shares: Shares) -> Damage:
    """The damage that is left after the start."""
    return {
        name: {size: lost * shares.get(name, {}).get(size, 1.0) for size, lost in losses.items()}
        for name, losses in damage.items()
    }


def _at(shares: Mapping[int, float], size: int) -> float:
    """Linear between the sizes that were tried, and constant beyond them."""
    low, high = min(shares), max(shares)
    place = min(max(size, low), high)
    if low == high:
        return shares[low]
    return shares[low] + (shares[high] - shares[low]) * (place - low) / (high - low)
