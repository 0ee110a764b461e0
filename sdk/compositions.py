"""Weights composed once a step: W~ = P_b^T W P_a, times gates where there are any, is computed when P, W or the gates
have changed; gradients go back exactly."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from edgefold.gates.student_gates import HardConcreteGates
from edgefold.projections import Projection, compose
from edgefold.resizing.layouts import Layout
from edgefold.table_rows import row_layout, used_rows


def compose_weights(
    projections: Mapping[str, Tensor], sources: Mapping[str, Tensor], layouts: Mapping[str, Layout]
) -> dict[str, Tensor]:
    """W~ = P_b^T W P_a for every source W.

    Args:
        projections: P (d, p) of each projected dimension.
        sources: the weights they act on; layouts: the dimensions along each of their axes.
    """
    maps = {name: Projection(matrix) for name, matrix in projections.items()}
    return {name: compose(source, layouts[name], maps) for name, source in sources.items()}


def gated(weights: Mapping[str, Tensor], gates: HardConcreteGates, log_alpha: Tensor) -> dict[str, Tensor]:
    """Composed weights times the gates of what they read, at this log_alpha."""
    values = gates.evaluated(log_alpha)
    return {name: gates.scale(name, weight, values) for name, weight in weights.items()}


class Composition:
    """The composed weights at one value of P, W and the gates.

    Any number of forward passes may use them and any number of backward passes, recomputation under checkpointing
    included, may follow: the graph of the composition is kept apart from theirs, behind one autograd node. While
    `held` is true that node sums up what reaches it and passes nothing on; the first backward pass after that takes
    the whole sum back to P and W at once. Composing is done in the parameters' own precision, whatever autocast says.
    """

    def __init__(
        self,
        projections: Mapping[str, Tensor],
        sources: Mapping[str, Tensor],
        layouts: Mapping[str, Layout],
        gates: HardConcreteGates | None = None,
    ) -> None:
        self.held = False
        self._gates = gates
        self._tensors = (*projections.values(), *sources.values(), *((gates.log_alpha,) if gates else ()))
        self._signature = self._sign(self._tensors)
        # Detached, so that a step's backward pass ends here and the graph below is ours; detaching shares the version
        # counter, so torch still refuses a backward pass after P or W were changed in place.
        self._leaves = [tensor.detach().requires_grad_(tensor.requires_grad) for tensor in self._tensors]
        self._sum: list[Tensor | None] = [None] * len(sources)
        self._reached = False
        p, rest = self._leaves[: len(projections)], self._leaves[len(projections) :]
        self._sources = rest[: len(sources)]
        self._maps = {name: Projection(leaf) for name, leaf in zip(projections, p, strict=True)}
        self._layouts = [layouts[name] for name in sources]
        self._is_gated = [gates is not None and name in gates.places.parameters for name in sources]
        with self._undisturbed():
            outputs = compose_weights(
                dict(zip(projections, p, strict=True)), dict(zip(sources, self._sources, strict=True)), layouts
            )
            outputs = gated(outputs, gates, rest[-1]) if gates is not None else outputs
        self._outputs = list(outputs.values())

    def is_current(self, tensors: Sequence[Tensor]) -> bool:
        """Whether P, W and the gates are as they were.

        Args:
            tensors: P, W and log_alpha.

        Torch counts changes in place. One made through `.data` is not counted, so gradients that were cleared after a
        backward pass are taken for a step, too.
        """
        cleared = self._reached and all(tensor.grad is None for tensor in self._tensors if tensor.requires_grad)
        return not cleared and self._sign(tensors) == self._signature

    def _sign(self, tensors: Sequence[Tensor]) -> tuple[object, ...]:
        return (_signature(tensors), self._gates.signature() if self._gates is not None else ())

    def weights(self) -> tuple[Tensor, ...]:
        """W~ of each source, in their order, joined to the autograd graph of P, W and the gates."""
        with self._undisturbed():
            weights: tuple[Tensor, ...] = _Junction.apply(self, *self._tensors)  # type: ignore[no-untyped-call]
        return weights

    def pull_back(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """From dL/dW~ to dL/dP, dL/dW and dL/dlog_alpha; None for what is not trained, not used, or held."""
        self._sum = [a if b is None else b if a is None else a + b for a, b in zip(self._sum, gradients, strict=True)]
        if self.held:
            return [None] * len(self._tensors)
        self._reached = True
        gradients, self._sum = self._sum, [None] * len(self._sum)
        with self._undisturbed():
            return self._pull_back(gradients)

    def _pull_back(self, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """One backward pass through the composition; of large tables, through their used rows alone."""
        outputs, reaching, pieces = list[Tensor](), list[Tensor](), dict[int, tuple[Tensor, Tensor]]()
        for index, (output, gradient) in enumerate(zip(self._outputs, gradients, strict=True)):
            if gradient is None or not output.requires_grad:
                continue
            rows = self._used_rows(index, gradient)
            if rows is not None:
                output, piece = self._compose_rows(index, rows)
                pieces[index], gradient = (piece, rows), gradient[rows]
            outputs.append(output)
            reaching.append(gradient)
        if not outputs:
            return [None] * len(self._tensors)
        wanted = [leaf for leaf in (*self._leaves, *(piece for piece, _ in pieces.values())) if leaf.requires_grad]
        found = torch.autograd.grad(outputs, wanted, reaching, retain_graph=True, allow_unused=True)
        by_leaf = {id(leaf): gradient for leaf, gradient in zip(wanted, found, strict=True)}
        for index, (piece, rows) in pieces.items():
            if (gradient := by_leaf.get(id(piece))) is not None:
                source = self._sources[index]
                by_leaf[id(source)] = torch.zeros_like(source).index_copy_(0, rows, gradient)
        return [by_leaf.get(id(leaf)) for leaf in self._leaves]

    def _used_rows(self, index: int, gradient: Tensor) -> Tensor | None:
        if self._is_gated[index]:
            return None
        if self._sign(self._tensors) != self._signature:  # then torch itself is to refuse, which it does on all rows
            return None
        return used_rows(gradient, self._layouts[index], self._maps)

    def _compose_rows(self, index: int, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Some rows of a composed table, and the rows of its source as a leaf."""
        source = self._sources[index]
        piece = source.detach()[rows].requires_grad_(source.requires_grad)
        return compose(piece, row_layout(self._layouts[index], len(rows)), self._maps), piece

    @contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """With gradients, and without autocast, whatever surrounds the call."""
        device = self._tensors[0].device.type
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
            yield


class _Junction(torch.autograd.Function):
    """Where the graphs of forward passes meet that of the composition; it saves no tensor, so it is never used up."""

    @staticmethod
    def forward(ctx: Any, composition: Composition, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.composition = composition
        ctx.set_materialize_grads(False)
        return tuple(output.detach() for output in composition._outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *ctx.composition.pull_back(gradients)


def _signature(tensors: Sequence[Tensor]) -> tuple[tuple[object, ...], ...]:
    """What tells whether a tensor has been replaced, moved, cast, changed in place, frozen or thawed."""
    return tuple((id(t), t.data_ptr(), t._version, t.dtype, t.device, t.requires_grad) for t in tensors)
