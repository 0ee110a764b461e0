"""Damage: none where nothing is lost, and what a direct cut loses where something is."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgefold.budget.choices import Choices, find_choices
from edgefold.budget.damage import estimate_damage
from edgefold.dimensions import trace


class Pair(nn.Module):
    """Two layers with a nonlinearity between them, and a stream that both ends share."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.up, self.down, self.leave = (nn.Linear(*s) for s in ((6, 16), (16, 24), (24, 16), (16, 3)))

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(x)
        return self.leave(h + self.down(torch.relu(self.up(h))))


@pytest.fixture
def pair() -> Pair:
    torch.manual_seed(0)
    return Pair().double().eval()


def some_batches(seed: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [{"x": torch.randn(64, 6, dtype=torch.float64, generator=generator)} for _ in range(3)]


def choices_of(graph: Any, sizes: dict[str, tuple[int, ...]]) -> list[Choices]:
    return [Choices(d.name, d.kind, sizes[d.name.split(".")[0]]) for d in graph if d.name.split(".")[0] in sizes]


def test_what_nobody_needs_is_lost_without_damage(pair: Pair) -> None:
    with torch.no_grad():
        pair.up.weight[16:], pair.up.bias[16:] = 0, 3.0  # eight neurons say the same always: the bias can take them
    graph = trace(pair, some_batches(0)[0])
    (hidden,) = [d.name for d in graph if d.kind == "linear"]
    (neurons,) = [d.name for d in graph if d.kind == "permutation"]
    choices = [Choices(hidden, "linear", (8, 16)), Choices(neurons, "permutation", (8, 16, 24))]
    damage = estimate_damage(graph, choices, some_batches(1), some_batches(2))
    assert damage[neurons][24] == damage[hidden][16] == 0
    assert damage[neurons][16] < 1e-3  # but for the damping
    assert damage[neurons][8] > 10 * damage[neurons][16]
    assert damage[hidden][8] > 0


def test_a_stream_of_few_directions_is_projected_without_damage() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 16), nn.Linear(16, 5)).double()
    graph = trace(module, {"input": torch.randn(8, 4, dtype=torch.float64)})
    batches = [{"input": torch.randn(64, 4, dtype=torch.float64)} for _ in range(2)]
    (name,) = [d.name for d in graph if d.kind == "linear"]
    damage = estimate_damage(graph, [Choices(name, "linear", (2, 4, 16))], batches, batches)
    assert damage[name][4] < 1e-20
    assert damage[name][2] > 1e-3


def test_damage_grows_as_sizes_shrink_and_masked_places_do_not_count(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    teacher = make_bert().double().eval()
    graph = trace(teacher, text_batch())
    choices = find_choices(graph)
    held_out = text_batch(8, seed=5)
    damage = estimate_damage(graph, choices, [text_batch(16, seed=1)], [held_out])
    assert damage.keys() == {each.dimension for each in choices}
    for each in choices:
        losses = [damage[each.dimension][size] for size in each.sizes]
        assert losses[-1] == 0
        assert losses[0] > 0
        assert all(loss >= 0 for loss in losses)
    moved = {**held_out, "input_ids": torch.where(held_out["attention_mask"] == 1, held_out["input_ids"], 7)}
    again = estimate_damage(graph, choices[:1], [text_batch(16, seed=1)], [moved])
    assert again[choices[0].dimension] == pytest.approx(damage[choices[0].dimension])


class Beside(nn.Module):
    """Neurons whose reader reads others beside them; and the same as a matrix whose first axis is read."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.up, self.table, self.transposed = nn.Linear(6, 24), nn.Linear(6, 5), transposed
        self.down = nn.Parameter(torch.randn(29, 29) if transposed else torch.randn(29, 29).T.contiguous())

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([torch.relu(self.up(x)), torch.tanh(self.table(x))], -1)
        return both @ self.down if self.transposed else nn.functional.linear(both, self.down)


@pytest.mark.parametrize("transposed", [False, True])
def test_what_stands_beside_the_neurons_stays(transposed: bool) -> None:
    torch.manual_seed(0)
    module = Beside(transposed).double().eval()
    with torch.no_grad():
        (module.down[16:24] if transposed else module.down[:, 16:24].T).zero_()  # nobody reads these eight
    graph = trace(module, some_batches(0)[0])
    (neurons,) = [d.name for d in graph if d.kind == "permutation" and d.size == 24]
    choices = [Choices(neurons, "permutation", (8, 16, 24))]
    damage = estimate_damage(graph, choices, some_batches(1), some_batches(2))[neurons]
    assert damage[16] < 1e-9
    assert 1e-3 < damage[8] < 0.9
