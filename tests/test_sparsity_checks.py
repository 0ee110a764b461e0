"""check_nm: what holds passes with its count, and the first violation is named to the row."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from edgefold.errors import InputError
from edgefold.masks.checks import check_nm


def pattern(outputs: int, inputs: int) -> torch.Tensor:
    """Two of four along the inputs."""
    return (torch.rand(outputs, inputs) + 1) * torch.tensor([1.0, 0.0, 0.0, 1.0]).repeat(inputs // 4)


@pytest.fixture
def net() -> nn.Module:
    net = nn.ModuleDict({"line": nn.Linear(8, 6), "turned": Conv1D(6, 8), "image": nn.Conv2d(8, 6, 3)})
    net.update({"odd": nn.Linear(6, 3), "groups": nn.Conv1d(8, 8, 1, groups=2)})
    with torch.no_grad():
        net["line"].weight.copy_(pattern(6, 8))
        net["turned"].weight.copy_(pattern(6, 8).T)
        net["image"].weight.copy_(pattern(6 * 9, 8).reshape(6, 3, 3, 8).movedim(3, 1))
    return net


def test_every_layer_is_checked_along_its_inputs(net: nn.Module) -> None:
    assert check_nm(net, 2, 4) == 3
    assert check_nm(net, 2, 4, "turned") == 1
    assert check_nm({"a": net["line"].weight, "b": net["image"].weight}, 2, 4) == 2
    assert check_nm(net, 3, 4) == 3


@pytest.mark.parametrize(
    ("layer", "place", "row"), [("line", (4, 5), 4), ("turned", (5, 4), 4), ("image", (4, 5, 0, 2), 38)]
)
def test_the_first_violation_is_named(net: nn.Module, layer: str, place: tuple[int, ...], row: int) -> None:
    with torch.no_grad():
        net[layer].weight[place] = 0.5
    message = rf"{layer} is not 2:4 sparse: in row {row}, of inputs 4 to 7, 3 weights are not zero \(1 such groups"
    with pytest.raises(InputError, match=message):
        check_nm(net, 2, 4)


def test_nothing_to_check_is_no_success(net: nn.Module) -> None:
    with pytest.raises(InputError, match=r"No weight that 'odd' matches has a multiple of 4 inputs, so none"):
        check_nm(net, 2, 4, "odd")
    with pytest.raises(InputError, match=r"w of shape \(3, 6\) has no multiple of 4 inputs along its second axis"):
        check_nm({"w": torch.zeros(3, 6)}, 2, 4)
