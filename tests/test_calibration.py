"""Streamed moments equal those of all rows at once; padding and bad values are handled."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from edgefold.calibration import Moments, collect_moments
from edgefold.dimensions import trace
from edgefold.errors import InputError


def test_streaming_equals_all_at_once() -> None:
    rows = torch.randn(50, 6, dtype=torch.float64)
    moments = Moments(6)
    for part in rows.split(7):
        moments.add(part)
    torch.testing.assert_close(moments.covariance, torch.cov(rows.T, correction=0))
    torch.testing.assert_close(moments.uncentred, rows.T @ rows / 50)
    torch.testing.assert_close(moments.mean, rows.mean(0))


def test_blocks_are_those_of_the_whole() -> None:
    rows = torch.randn(50, 12, dtype=torch.float64) + 3
    whole = Moments(12)
    whole.add(rows)
    for places in (torch.arange(12).reshape(3, 4), torch.arange(12).reshape(12, 1), torch.tensor([[0, 5], [7, 2]])):
        part = Moments(12, places)
        for piece in rows.split(20):
            part.add(piece)
        torch.testing.assert_close(part.blocks_at(places), whole.blocks_at(places))
        torch.testing.assert_close(
            part.covariance, whole.covariance[places[:, :, None], places[:, None, :]], rtol=1e-7, atol=1e-10
        )


def test_moments_of_scaled_vectors() -> None:
    rows, scale = torch.randn(50, 6, dtype=torch.float64) + 1, torch.rand(6, dtype=torch.float64) + 0.5
    moments, divided = Moments(6), Moments(6)
    moments.add(rows)
    divided.add(rows / scale)
    torch.testing.assert_close(moments.divided(scale).uncentred, divided.uncentred)
    torch.testing.assert_close(moments.divided(scale).covariance, divided.covariance)


def test_a_large_mean_costs_single_precision_nothing() -> None:
    """Products are taken about the first batch's mean: without that, float32 would leave nothing of this variance."""
    rows = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 3e3
    rows = rows.float()
    moments = Moments(6)
    for part in rows.split(500):
        moments.add(part)
    torch.testing.assert_close(moments.covariance, torch.cov(rows.double().T, correction=0), rtol=1e-4, atol=1e-5)


def test_padding_is_left_out(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> None:
    """The same rows with more padding give the same moments at every norm."""
    model, batch = make_bert(), text_batch(rows=4, length=9)
    graph = trace(model, batch)
    targets = {norm.node: 2 for norm in graph.norms}
    longer = {name: torch.nn.functional.pad(value, (0, 5)) for name, value in batch.items()}
    short, long = (collect_moments(graph.module, targets, [b]) for b in (batch, longer))
    for node in targets:
        assert short[node].count == int(batch["attention_mask"].sum())
        torch.testing.assert_close(short[node].second, long[node].second)


def test_moments_are_those_of_a_forward_hook() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    x = torch.randn(8, 3, dtype=torch.float64)
    graph = trace(model, {"input": x})
    (read,) = [read for read in graph.reads if read.parameter == "2.weight"]
    found = collect_moments(graph.module, {read.source: read.axis}, [{"input": x}])[read.source]
    seen = model[1](model[0](x))
    torch.testing.assert_close(found.second, seen.T @ seen)


def test_bad_batches_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    graph = trace(model, {"input": torch.randn(2, 3)})
    targets = {read.source: read.axis for read in graph.reads if read.parameter == "2.weight"}
    with pytest.raises(InputError, match="at least one batch; got none"):
        collect_moments(graph.module, targets, [])
    with pytest.raises(InputError, match="lacks input; it has x"):
        collect_moments(graph.module, targets, [{"x": torch.randn(2, 3)}])
    with pytest.raises(InputError, match="non-finite activations at relu"):
        collect_moments(graph.module, targets, [{"input": torch.full((2, 3), float("nan"))}])


class Widening(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.layer = nn.Linear(features, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x))


def test_whole_moments_are_of_vectors_drawn_from_a_large_batch() -> None:
    """Blocks are of all vectors; a whole is of 1,024 at least, and close to that of all."""
    generator = torch.Generator().manual_seed(0)
    batch = {"x": torch.randn(4000, 6, generator=generator) @ torch.randn(6, 6, generator=generator)}
    module = Widening(6)
    graph = trace(module, {"x": batch["x"][:5]})
    relu = next(node for node in graph.module.graph.nodes if "relu" in node.name)
    linear = next(node for node in graph.module.graph.nodes if "linear" in node.name)
    found = collect_moments(graph.module, {linear: 1, relu: 1}, [batch, batch], {relu: torch.arange(6)[:, None]})
    assert found[relu].count == 8000
    assert found[linear].count == 2048
    exact = torch.cov(module.layer(batch["x"]).detach().double().T, correction=0)
    torch.testing.assert_close(found[linear].covariance, exact, rtol=0, atol=0.1 * float(exact.diagonal().max()))
    assert not torch.allclose(found[linear].covariance, exact, rtol=1e-3)


@pytest.mark.parametrize("row", range(0, 4000, 799))
def test_a_value_that_is_not_finite_is_found_among_the_vectors_left_out_too(row: int) -> None:
    x = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    graph = trace(Widening(6), {"x": x[:5]})
    relu = next(node for node in graph.module.graph.nodes if "relu" in node.name)
    x[row, 3] = float("inf")
    with pytest.raises(InputError, match="non-finite activations at relu"):
        collect_moments(graph.module, {relu: 1}, [{"x": x}])
