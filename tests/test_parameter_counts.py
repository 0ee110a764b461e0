"""The polynomial of sizes is the number of parameters of the network that is built at these sizes."""

from math import prod

import families
import pytest
import torch

from edgefold.dimensions import trace
from edgefold.gates.parameter_counts import count_parameters
from edgefold.resizing.layouts import Factor, layout_names, resized_shape


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "unet", "fused", "recommender"])
def test_the_polynomial_is_the_size_of_every_shape(name: str) -> None:
    """Every dimension that is free at once, the stream included; products and sums of dimensions too."""
    model, inputs = families.make(name)
    graph = trace(model, inputs)
    free = {d.name: d.size for d in graph if d.kind != "fixed"}
    names = [parameter for parameter, _ in model.named_parameters()]
    count = count_parameters(graph.layouts, names, free.keys())
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        sizes = {d: int(torch.randint(1, size + 1, (), generator=generator)) for d, size in free.items()}
        expected = sum(
            prod(resized_shape(graph.layouts[parameter], sizes))
            for parameter in names
            if not layout_names(graph.layouts.get(parameter, ())).isdisjoint(free)
        )
        assert int(count.of({d: torch.tensor(size) for d, size in sizes.items()})) == expected


def test_what_runs_along_no_such_dimension_does_not_count() -> None:
    a, b = Factor("a", 4), Factor("b", 5)
    layouts = {"one": ((a,), (b,)), "two": ((b,), (b,)), "both": ((a, b),), "sum": ((Factor("", 9, ((a,), (b,))),),)}
    count = count_parameters(layouts, [*layouts, "elsewhere"], {"a"})
    assert count.terms == {("a",): 5 + 5 + 1, (): 5}


def test_expected_sizes_are_products_of_expected_counts() -> None:
    """Against draws of independent gates."""
    layouts = {"w": ((Factor("a", 6),), (Factor("b", 8),)), "bias": ((Factor("a", 6),),)}
    count = count_parameters(layouts, layouts, {"a", "b"})
    chances = {"a": torch.rand(6, dtype=torch.float64), "b": torch.rand(8, dtype=torch.float64)}
    generator = torch.Generator().manual_seed(0)
    opened = {n: torch.rand(100_000, len(p), generator=generator).double() < p for n, p in chances.items()}
    drawn = count.of({name: each.sum(1).double() for name, each in opened.items()})
    expected = float(count.of({name: p.sum() for name, p in chances.items()}))
    assert float(drawn.mean()) == pytest.approx(expected, abs=4 * float(drawn.std()) / 100_000**0.5)
