"""Second moments of activations, streamed over calibration batches with padding left out."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgefold.errors import InputError

Batch = Mapping[str, Tensor]


@dataclass
class Moments:
    """Count, sum and second moment of vectors x of one space, accumulated in float64."""

    size: int
    count: float = 0.0
    total: Tensor = field(init=False)
    second: Tensor = field(init=False)
    """sum of x x^T: (size, size)."""

    def __post_init__(self) -> None:
        self.total = torch.zeros(self.size, dtype=torch.float64)
        self.second = torch.zeros(self.size, self.size, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """rows: (n, size), any floating type and device."""
        rows = rows.detach().to("cpu", torch.float64)
        self.count += len(rows)
        self.total += rows.sum(0)
        self.second += rows.T @ rows

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def uncentred(self) -> Tensor:
        """E[x x^T]: (size, size)."""
        return self.second / self.count

    @property
    def covariance(self) -> Tensor:
        """E[(x - mean)(x - mean)^T]: (size, size)."""
        return self.uncentred - torch.outer(self.mean, self.mean)


def collect_moments(module: GraphModule, targets: Mapping[Node, int], batches: Iterable[Batch]) -> dict[Node, Moments]:
    """The moments of some nodes' values along one axis each.

    Args:
        module: a traced module, as `trace` keeps it.
        targets: for each node, the axis of its value along which the vectors lie.
        batches: keyword tensors of forward. Where a batch has an `attention_mask` of shape (batch, sequence), the
            positions
            it masks are left out of every value that begins with these two axes.

    Raises:
        InputError: no batches, a batch whose names or shapes do not fit, or activations that are not finite.
    """
    moments: dict[Node, Moments] = {}

    def record(node: Node, value: Any, batch: Batch) -> None:
        if node not in targets:
            return
        rows = _rows(value, targets[node], batch)
        if not bool(torch.isfinite(rows).all()):
            raise InputError(
                f"Calibration met non-finite activations at {node.name} ({node.target}); check the model's weights and "
                "the calibration inputs for NaN or overflow."
            )
        moments.setdefault(node, Moments(rows.shape[1])).add(rows)

    run_batches(module, batches, record)
    return moments


def run_batches(module: GraphModule, batches: Iterable[Batch], observe: Callable[[Node, Any, Batch], None]) -> None:
    """Run the traced module on every batch and show each node's value to `observe`."""
    names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    seen = False
    for batch in batches:
        seen = True
        missing = [name for name in names if name not in batch]
        if missing:
            raise InputError(
                f"A calibration batch lacks {', '.join(missing)}; it has {', '.join(batch) or 'nothing'}, and "
                "the model "
                f"was traced with {', '.join(names)}."
            )
        with torch.no_grad():
            _Observer(module, batch, observe).run(*(batch[name] for name in names))
    if not seen:
        raise InputError("Calibration needs at least one batch; got none. Pass an iterable of dicts of tensors.")


def _rows(value: Tensor, axis: int, batch: Batch) -> Tensor:
    """The vectors along `axis` as (n, size), without those at masked positions."""
    value = value.movedim(axis, -1)
    mask = batch.get("attention_mask")
    if mask is not None and mask.dim() == 2 and value.dim() >= 3 and value.shape[:2] == mask.shape:
        return value[mask.bool()].reshape(-1, value.shape[-1])
    return value.reshape(-1, value.shape[-1])


class _Observer(Interpreter):
    """Runs a graph node by node and reports each value."""

    def __init__(self, module: GraphModule, batch: Batch, observe: Callable[[Node, Any, Batch], None]) -> None:
        super().__init__(module)
        self.extra_traceback = False  # it would append the graph to our own errors
        self._batch = batch
        self._observe = observe

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.op == "call_function":
            self._observe(n, value, self._batch)
        return value
