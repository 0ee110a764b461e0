"""Backward elimination: what is missed, what is taken over, and that it beats the coordinates' own energy."""

import pytest
import torch
from torch import Tensor

from edgefold.projections import most_important
from edgefold.starts.elimination import eliminate, open_reader


def inputs(rows: int, size: int, seed: int = 0) -> Tensor:
    """Centred and correlated: (rows, size)."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, size, generator=generator, dtype=torch.float64)
    x = x @ torch.randn(size, size, generator=generator, dtype=torch.float64)
    return x - x.mean(0)


def singles(size: int) -> Tensor:
    return torch.arange(size)[:, None]


def missed(x: Tensor, weight: Tensor, kept: Tensor) -> float:
    """What the best reader of these columns misses of W x: its share of the energy."""
    y = x @ weight.T
    best = torch.linalg.lstsq(x[:, kept], y).solution
    return float((y - x[:, kept] @ best).square().sum() / y.square().sum())


def test_a_copy_is_not_missed() -> None:
    """Energy would keep both copies of the loudest coordinate; the reader needs one of them."""
    x = inputs(200, 4)
    x = torch.cat([3 * x[:, :1], 3 * x[:, :1], x[:, 1:]], 1)
    weight = torch.eye(5, dtype=torch.float64)
    kept = eliminate([open_reader(weight, x.T @ x / len(x), singles(5), damping=1e-9)], 4, rounds=1)
    assert len({0, 1} & set(kept.tolist())) == 1
    assert missed(x, weight, kept) < 1e-12


@pytest.mark.parametrize("k", [1, 2])
def test_losses_are_those_of_the_refitted_reader(k: int) -> None:
    """For single coordinates and for whole heads: the loss of each equals that of least squares without it."""
    x, weight = inputs(300, 6), inputs(5, 6, seed=1)
    places = torch.arange(6).reshape(-1, k)
    reader = open_reader(weight, x.T @ x / len(x), places, damping=0.0)
    for gone, loss in enumerate(reader.losses()):
        kept = torch.tensor([i for i in range(6) if i not in places[gone]])
        assert float(loss) == pytest.approx(missed(x, weight, kept), rel=1e-6)


def test_the_readers_take_over_the_work_of_what_is_gone() -> None:
    """After every removal the weight is the least-squares one on what is left, in its new places."""
    x, weight = inputs(300, 8), inputs(5, 8, seed=1)
    reader = open_reader(weight, x.T @ x / len(x), torch.arange(8).reshape(4, 2), damping=0.0)
    kept = eliminate([reader], 2, rounds=2)
    columns = torch.arange(8).reshape(4, 2)[kept].flatten()
    best = torch.linalg.lstsq(x[:, columns], x @ weight.T).solution.T
    torch.testing.assert_close(reader.weight, best, rtol=1e-6, atol=1e-8)
    assert reader.places.tolist() == [[0, 1], [2, 3]]


def test_it_misses_less_than_the_loudest_coordinates() -> None:
    x, weight = inputs(400, 24), inputs(6, 24, seed=1)
    moment = x.T @ x / len(x)
    loudest = most_important(weight.square().sum(0) * moment.diagonal(), 12).indices
    kept = eliminate([open_reader(weight, moment, singles(24))], 12, rounds=12)
    assert kept.tolist() == sorted(kept.tolist())
    assert missed(x, weight, kept) < 0.7 * missed(x, weight, loudest)


def test_several_readers_are_heard_alike() -> None:
    """A coordinate that one of two readers cannot do without stays, however small that reader's outputs are."""
    x = inputs(200, 3)
    quiet, loud = torch.zeros(1, 3, dtype=torch.float64), 1e3 * torch.eye(3, dtype=torch.float64)[:2]
    quiet[0, 2] = 1e-3
    moment = torch.diag(x.var(0))
    readers = [open_reader(weight, moment, singles(3)) for weight in (quiet, loud)]
    assert 2 in eliminate(readers, 2).tolist()


def test_inputs_that_never_vary_are_no_obstacle() -> None:
    zeros = torch.zeros(4, 4, dtype=torch.float64)
    assert len(eliminate([open_reader(torch.ones(2, 4), zeros, singles(4))], 2)) == 2
