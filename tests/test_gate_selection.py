"""What stays open is the best that fits, in whole units, and no more fits."""

import pytest
import torch

from edgefold.gates.parameter_counts import ParameterCount
from edgefold.gates.selection import least_size, select_open

COUNT = ParameterCount({("ffn",): 10, ("heads",): 70, ("ffn", "stream"): 2})
SIZES = {"ffn": 40, "heads": 6, "stream": 12}


def scores(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(size, generator=generator) for name, size in SIZES.items()}


def size_of(opened: dict[str, torch.Tensor]) -> int:
    return int(COUNT.of({name: mask.sum() for name, mask in opened.items()}))


@pytest.mark.parametrize("multiple", [1, 8])
@pytest.mark.parametrize("share", [0.15, 0.3, 0.5, 0.9, 1.0])
def test_the_limit_is_kept_and_nothing_more_fits(share: float, multiple: int) -> None:
    multiples = {"ffn": multiple, "heads": 1, "stream": 1}
    limit = share * size_of({name: torch.ones(size) for name, size in SIZES.items()})
    given = scores()
    opened = select_open(given, COUNT, limit, multiples)
    assert size_of(opened) <= limit
    for name, mask in opened.items():
        kept = int(mask.sum())
        assert kept % multiples[name] == 0
        assert set(given[name].topk(kept).indices.tolist()) == set(mask.nonzero().flatten().tolist())
        if kept < SIZES[name]:
            more = torch.arange(SIZES[name]) < kept + multiples[name]
            assert size_of({**opened, name: more}) > limit


def test_one_threshold_decides_over_all_dimensions() -> None:
    """Equal costs: the best six of both together, three apart from the one that each keeps anyway."""
    count = ParameterCount({("a",): 1, ("b",): 1})
    given = {"a": torch.tensor([9.0, 8, 7, 6, 5, 0]), "b": torch.tensor([-9.0, -1, 1, 2, 3, 4])}
    opened = select_open(given, count, 6, {"a": 1, "b": 1})
    assert opened["a"].tolist() == [True] * 5 + [False]
    assert opened["b"].tolist() == [False] * 5 + [True]


def test_each_dimension_keeps_its_best_unit() -> None:
    multiples = {"ffn": 8, "heads": 1, "stream": 1}
    opened = select_open(scores(), COUNT, 0, multiples)
    assert {name: int(mask.sum()) for name, mask in opened.items()} == multiples
    assert least_size(SIZES, COUNT, multiples) == size_of(opened)
