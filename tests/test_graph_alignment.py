"""Operators are found again in graphs of other sizes and depths, by where they stand."""

import torch
from torch import Tensor, nn

from edgefold.dimensions import trace
from edgefold.graphs.alignment import align, renamed


class Stream(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + torch.relu(layer(x))
        return x


def sums(width: int, layers: int) -> tuple[torch.fx.GraphModule, list[torch.fx.Node]]:
    module = trace(Stream(width, layers), {"x": torch.randn(3, width)}).module
    return module, [node for node in module.graph.nodes if "add" in str(node.target)]


def test_sizes_do_not_matter() -> None:
    (small, small_sums), (large, large_sums) = sums(4, 3), sums(8, 3)
    found = align(small, large)
    assert [found[node] for node in small_sums] == large_sums


def test_the_sum_after_a_mapped_layer_is_the_sum_after_its_counterpart() -> None:
    """Though both sums are called by the same module, in its own forward."""
    (small, small_sums), (large, large_sums) = sums(4, 2), sums(8, 6)
    found = align(small, large, {"layers.0": "layers.2", "layers.1": "layers.5"})
    assert [found[node] for node in small_sums] == [large_sums[2], large_sums[5]]


def test_the_longest_beginning_is_renamed() -> None:
    layer_map = {"encoder": "model.encoder", "encoder.layer.1": "model.encoder.layer.3", "head": ""}
    assert renamed("encoder.layer.1.dense", layer_map) == "model.encoder.layer.3.dense"
    assert renamed("encoder.layer.10.dense", layer_map) == "model.encoder.layer.10.dense"
    assert (renamed("head.dense", layer_map), renamed("other", layer_map), renamed("", layer_map)) == (
        "dense",
        "other",
        "",
    )
    assert renamed("dense", {"": "model"}) == "model.dense"
