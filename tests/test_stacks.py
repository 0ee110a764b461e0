"""Stacks are found without names, and a pattern that names none, or too many, is refused."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from edgefold.errors import InputError
from edgefold.structure.stacks import Stack, find_stacks, match_stacks


class Experts(nn.Module):
    """Layers with lists of their own inside, and a list that is no stack."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"experts": _linears(7)}) for _ in range(3))
        self.other = _linears(2)
        self.mixed = nn.ModuleList([nn.Linear(2, 2), nn.LayerNorm(2)])
        self.narrowing = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
        self.silent = nn.ModuleList([nn.ReLU(), nn.ReLU()])


def _linears(count: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Linear(2, 2) for _ in range(count))


def test_the_outermost_lists_of_like_layers() -> None:
    assert find_stacks(Experts()) == [Stack("blocks", 3), Stack("other", 2)]
    assert match_stacks(Experts(), None, "DropLayers") == [Stack("blocks", 3)]
    assert match_stacks(Experts(), "*", "DropLayers") == find_stacks(Experts())


def test_a_part_of_the_name_will_do(make_bert: Callable[..., Any]) -> None:
    assert match_stacks(make_bert(), "encoder", "DropLayers") == [Stack("bert.encoder.layer", 2)]


def test_refusals() -> None:
    model = Experts()
    with pytest.raises(InputError, match=r"matches no stack of layers by 'block'; did you mean 'blocks'\? There are"):
        match_stacks(model, "block", "DropLayers")
    with pytest.raises(InputError, match="DropLayers needs a list of layers, but Linear has no ModuleList"):
        match_stacks(nn.Linear(2, 2), None, "DropLayers")
    model.other = _linears(3)
    with pytest.raises(InputError, match=r"does not say which stack: Experts has blocks \(3 layers\), other \(3"):
        match_stacks(model, None, "DropLayers")
