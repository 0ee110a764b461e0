"""Batch norms of a student that has just been started: their statistics become those of what they really get.

A start fits a student in evaluation mode, where batch norms read running statistics: those of the teacher's
activations. Training takes the statistics of the batch, which are others where something was cut, and undoes the fit in
its first step. With the statistics measured on the student, and scales and shifts changed so that evaluation computes
what it did, both modes compute the same up to the chance of a batch.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from edgefold.calibration import Batch

BATCH_NORM = torch.ops.aten.batch_norm.default


def settle_batch_norms(
    graph: GraphModule, module: nn.Module, batches: Sequence[Batch], fixed: Collection[str] = ()
) -> dict[str, Tensor]:
    """The running statistics of what the batch norms of a module get, and the scales and shifts that go with them.

    With m, v the statistics before, m', v' those measured: gamma' = gamma sqrt((v' + eps) / (v + eps)) and
    beta' = beta + gamma (m' - m) / sqrt(v + eps), so that in evaluation nothing changes. Left out is a norm without
    scale and shift.

    Args:
        graph: of the module, traced in evaluation mode. Its weights are read from the module, by name.
        fixed: parameters that must stay.

    Returns:
        New values of parameters and buffers by name.
    """
    tensors = {**dict(module.named_buffers(remove_duplicate=False)), **dict(module.named_parameters())}
    tensors |= dict(module.named_parameters(remove_duplicate=False))
    norms = [norm for node in graph.graph.nodes if (norm := _open(node, tensors, fixed)) is not None]
    if not norms:
        return {}
    watched = {norm.node: _Moments() for norm in norms}
    with torch.no_grad():
        for batch in batches:
            _Watch(graph, tensors, batch, watched).run()
    by_name: dict[str, list[_Norm]] = {}
    for norm in norms:
        by_name.setdefault(norm.mean, []).append(norm)
    settled: dict[str, Tensor] = {}
    for same in by_name.values():  # one norm, used once or several times
        moments = _Moments.together([watched[norm.node] for norm in same])
        if len({(norm.weight, norm.bias, norm.eps) for norm in same}) == 1 and moments.count > 1:
            settled |= _settled(same[0], tensors, moments)
    return settled


@dataclass(frozen=True)
class _Norm:
    """A batch norm in the graph: the names of its tensors."""

    node: Node
    weight: str
    bias: str
    mean: str
    variance: str
    eps: float


class _Moments:
    """Count, sum and sum of squares of each channel, in float64."""

    def __init__(self, count: int = 0, total: Any = 0.0, squares: Any = 0.0) -> None:
        self.count, self.total, self.squares = count, total, squares

    def add(self, value: Tensor) -> None:
        """value: (rows, channels, ...)"""
        channels = value.detach().double().transpose(0, 1).flatten(1)
        self.count += channels.shape[1]
        self.total = self.total + channels.sum(1)
        self.squares = self.squares + channels.square().sum(1)

    @classmethod
    def together(cls, parts: Sequence["_Moments"]) -> "_Moments":
        return cls(sum(p.count for p in parts), sum(p.total for p in parts), sum(p.squares for p in parts))

    @property
    def mean(self) -> Tensor:
        mean: Tensor = self.total / self.count
        return mean

    @property
    def variance(self) -> Tensor:
        """Unbiased, as torch keeps it."""
        variance: Tensor = (self.squares - self.count * self.mean.square()) / (self.count - 1)
        return variance.clamp_min(0)


class _Watch(Interpreter):
    """One pass over a batch, in which what enters the norms is measured."""

    def __init__(self, graph: GraphModule, tensors: dict[str, Tensor], batch: Batch, watched: dict[Node, _Moments]):
        super().__init__(graph)
        self.extra_traceback = False
        self._tensors, self._batch, self._watched = tensors, batch, watched

    def run_node(self, n: Node) -> Any:
        if n in self._watched:
            self._watched[n].add(self.env[n.all_input_nodes[0]])
        return super().run_node(n)

    def placeholder(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._batch[target]

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        return self._tensors[target] if target in self._tensors else attrgetter(target)(self.module)


def _open(node: Node, tensors: dict[str, Tensor], fixed: Collection[str]) -> _Norm | None:
    if node.target is not BATCH_NORM or node.args[5]:
        return None
    read = node.args[1:5]
    if not all(isinstance(each, Node) and each.op == "get_attr" and str(each.target) in tensors for each in read):
        return None
    weight, bias, mean, variance = (str(each.target) for each in read)  # type: ignore[union-attr]
    if {weight, bias} & set(fixed):
        return None
    return _Norm(node, weight, bias, mean, variance, float(node.args[7]))  # type: ignore[arg-type]


def _settled(norm: _Norm, tensors: dict[str, Tensor], moments: _Moments) -> dict[str, Tensor]:
    names = (norm.weight, norm.bias, norm.mean, norm.variance)
    weight, bias, mean, variance = (tensors[name].detach().double() for name in names)
    before, after = (variance + norm.eps).sqrt(), (moments.variance + norm.eps).sqrt()
    shifted = bias + weight * (moments.mean - mean) / before
    found = zip(names, (weight * after / before, shifted, moments.mean, moments.variance), strict=True)
    return {name: value.to(tensors[name].dtype) for name, value in found}
