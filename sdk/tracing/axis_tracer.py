"""What the rules share while they walk a traced graph: the axes of every value, and which products read parameters."""

from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgefold.errors import InputError
from edgefold.tracing.axes import Axis, AxisSpaces

Axes = list[Axis]


@dataclass(frozen=True)
class LinearRead:
    """An operator that contracts activations with a parameter: y = x W^T or a convolution."""

    node: Node
    """The operator."""
    source: Node
    """The activation it reads."""
    axis: int
    """The axis of `source` that is contracted."""
    parameter: str
    parameter_axis: int
    bias: str | None
    """The parameter added to the product, if any."""
    macs: int


@dataclass(frozen=True)
class NormRead:
    """A norm over the last axis: scale * (x - mean) / std + bias, or scale * x / rms without a mean."""

    node: Node
    source: Node
    weight: str | None
    bias: str | None
    eps: float = 1e-5
    centred: bool = True
    """Whether the mean is taken off: layer norm; false for RMS norm (Zhang and Sennrich, 2019)."""
    offset: float = 0.0
    """What is added to the weight before it scales (Gemma's 1 + w)."""

    def normalise(self, x: Tensor) -> Tensor:
        """x: (..., p) -> the same, normalised over the last axis, before scale and bias."""
        if self.centred:
            return torch.nn.functional.layer_norm(x, (x.shape[-1],), eps=self.eps)
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps)


@dataclass
class AxisTracer:
    """The state of a walk."""

    spaces: AxisSpaces
    axes: dict[Node, Axes] = field(default_factory=dict)
    tuples: dict[Node, list[Axes]] = field(default_factory=dict)
    """For an operator with several outputs, the axes of each."""
    parameters: dict[Node, str] = field(default_factory=dict)
    """Parameters and buffers, and their permuted views, by qualified name."""
    orders: dict[Node, tuple[int, ...]] = field(default_factory=dict)
    """For a permuted view of a parameter: which axis of the parameter each of its axes is."""
    static: set[Node] = field(default_factory=set)
    """Nodes that depend on parameters and constants alone: contracting with them is linear."""
    inside_norms: set[Node] = field(default_factory=set)
    """Operators that together are a norm, but for the last; they do not make an axis nonlinear by themselves."""
    norm_ends: dict[Node, NormRead] = field(default_factory=dict)
    """Last operator of a norm that is written out -> the norm."""
    reads: list[LinearRead] = field(default_factory=list)
    norms: list[NormRead] = field(default_factory=list)
    lookups: list[tuple[Node, str, Node]] = field(default_factory=list)
    """Embedding look-ups: (node, parameter, node of the indices)."""

    def of(self, value: Any) -> Axes:
        """The axes of an operand; a number has none."""
        return self.axes[value] if isinstance(value, Node) and value in self.axes else []

    def unify_all(self, axes: Axes, others: Axes, where: str) -> None:
        for one, other in zip(axes, others, strict=True):
            self.spaces.unify(one, other, where)

    def read(
        self,
        node: Node,
        source: Any,
        axis: int,
        weight: Any,
        weight_axis: int,
        bias: Any = None,
        kernel: int = 1,
        macs: int | None = None,
    ) -> None:
        """Remember a contraction with a parameter, and its multiply-adds: one per output and contracted element, unless
        they are given."""
        name = self.parameters.get(weight)
        if name is None or not isinstance(source, Node) or source in self.static or self.spaces.only_sizes:
            return
        own_axis = self.orders[weight][weight_axis] if weight in self.orders else weight_axis
        added = self.parameters.get(bias) if isinstance(bias, Node) else None
        macs = prod(sizes(node)) * sizes(weight)[weight_axis] * kernel if macs is None else macs
        self.reads.append(LinearRead(node, source, axis, name, own_axis, added, macs))

    def normalise(self, norm: NormRead) -> None:
        """Remember a norm."""
        if not self.spaces.only_sizes:
            self.norms.append(norm)


def sizes(node: Any) -> list[int]:
    """The example sizes of a tensor-valued node; a symbolic size counts by its example value."""
    value = node.meta.get("val") if isinstance(node, Node) else None
    return [hint(size) for size in value.shape] if isinstance(value, Tensor) else []


def all_sizes(node: Node) -> list[list[int]]:
    """The example sizes of every output of a node with several."""
    values = node.meta.get("val")
    values = values if isinstance(values, tuple | list) else [values]
    return [[hint(size) for size in value.shape] if isinstance(value, Tensor) else [] for value in values]


def hint(size: Any) -> int:
    """A size, or the example value of a symbolic one.

    Raises:
        InputError: it has none.
    """
    example = size if isinstance(size, int) else size.node.hint
    if example is None:
        raise InputError(
            f"The model makes a tensor whose length ({size}) depends on the values of its inputs, not on their shapes "
            "alone, so its dimensions cannot be followed; compress the modules before and after it instead."
        )
    return int(example)


def place(node: Node) -> str:
    """Where an operator stands, for people: its name and its line of source."""
    name = str(node.target).removeprefix("aten.")
    lines = [line.strip() for line in (node.stack_trace or "").splitlines() if line.strip().startswith("File ")]
    if not lines:
        return name
    file, line = lines[-1].split('"')[1], lines[-1].split("line ")[1].split(",")[0]
    return f"{name} ({file.rsplit('/', 1)[-1]}:{line})"


def argument(node: Node, index: int, name: str, default: Any = None) -> Any:
    return node.args[index] if len(node.args) > index else node.kwargs.get(name, default)


def pad_axes(axes: Axes, rank: int) -> Axes:
    """With axes of size 1 in front, as broadcasting has it."""
    return [()] * (rank - len(axes)) + axes


def broadcast(tracer: AxisTracer, node: Node) -> tuple[list[Axes], Axes]:
    """Align the tensor operands on the right and unify what is not broadcast: (axes of each operand, of the result)."""
    rank = len(sizes(node))
    operands = [pad_axes(tracer.of(arg), rank) for arg in node.all_input_nodes if arg in tracer.axes]
    result: Axes = []
    for i in range(rank):
        present = [axes[i] for axes in operands if axes[i] != ()]
        for other in present[1:]:
            tracer.spaces.unify(present[0], other, place(node))
        result.append(present[0] if present else ())
    return operands, result
