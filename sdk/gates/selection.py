"""Which gates stay open so that what is left has at most a given size: the best of all dimensions together."""

from collections.abc import Mapping

import torch
from torch import Tensor

from edgefold.gates.parameter_counts import ParameterCount


def select_open(
    scores: Mapping[str, Tensor], count: ParameterCount, limit: float, multiples: Mapping[str, int]
) -> dict[str, Tensor]:
    """The open coordinates of each dimension: bool, (d,).

    One threshold for all dimensions is lowered while the size stays within the limit. What is then left of the limit is
    filled with the next best that still fit, dimension after dimension. Coordinates come in units of as many as the
    multiple of their dimension says, the best of it first, and the best unit of each dimension always stays.

    Args:
        scores: of each coordinate, (d,), the higher the better.
        limit: parameters by `count`.
    """
    orders = {name: score.argsort(descending=True, stable=True) for name, score in scores.items()}
    units = {name: torch.split(order, multiples[name]) for name, order in orders.items()}
    ranked = sorted(
        ((float(scores[name][unit].mean()), name) for name, of_one in units.items() for unit in of_one[1:]),
        key=lambda entry: -entry[0],
    )
    sizes = {name: torch.tensor([0, *(len(unit) for unit in of_one)]).cumsum(0) for name, of_one in units.items()}
    taken = _longest_prefix([name for _, name in ranked], sizes, count, limit)
    taken = _filled([name for _, name in ranked[sum(taken.values()) - len(taken) :]], taken, sizes, count, limit)
    return {name: _mask(order, int(sizes[name][taken[name]])) for name, order in orders.items()}


def least_size(sizes: Mapping[str, int], count: ParameterCount, multiples: Mapping[str, int]) -> float:
    """The parameters that stay when each dimension keeps its best unit alone."""
    return float(count.of({name: torch.tensor(min(size, multiples[name])) for name, size in sizes.items()}))


def _longest_prefix(
    names: list[str], sizes: Mapping[str, Tensor], count: ParameterCount, limit: float
) -> dict[str, int]:
    """How many units each dimension has under the lowest threshold that the limit allows, by bisection."""
    low, high = 0, len(names)
    while low < high:
        middle = (low + high + 1) // 2
        if _size(_counted(names[:middle], sizes), sizes, count) <= limit:
            low = middle
        else:
            high = middle - 1
    return _counted(names[:low], sizes)


def _filled(
    names: list[str], taken: Mapping[str, int], sizes: Mapping[str, Tensor], count: ParameterCount, limit: float
) -> dict[str, int]:
    """With the next units, in their order, that fit; a dimension whose next one does not is done with."""
    taken, done = dict(taken), set[str]()
    for name in names:
        if name in done:
            continue
        more = {**taken, name: taken[name] + 1}
        if _size(more, sizes, count) <= limit:
            taken = more
        else:
            done.add(name)
            if len(done) == len(taken):
                break
    return taken


def _counted(names: list[str], sizes: Mapping[str, Tensor]) -> dict[str, int]:
    taken = dict.fromkeys(sizes, 1)
    for name in names:
        taken[name] += 1
    return taken


def _size(taken: Mapping[str, int], sizes: Mapping[str, Tensor], count: ParameterCount) -> float:
    return float(count.of({name: sizes[name][units] for name, units in taken.items()}))


def _mask(order: Tensor, kept: int) -> Tensor:
    mask = torch.zeros(len(order), dtype=torch.bool)
    mask[order[:kept].cpu()] = True
    return mask
