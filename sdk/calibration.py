"""Second moments of activations, streamed over calibration batches with padding left out."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from edgefold.errors import InputError

Batch = Mapping[str, Tensor]

ROWS_IN_CACHE = 512
"""Vectors that are centred, summed and multiplied before the next ones are fetched from memory."""
STRIP = 128
"""Rows of a symmetric product that are computed at a time, up to the diagonal: about half of the whole."""

ROWS_PER_COORDINATE = 4
"""Of one batch at most so many vectors for each coordinate are multiplied where a whole second moment is wanted."""
ROWS_AT_LEAST = 1024
"""But never fewer than these: v' C v of any direction v is then known to 4 % from one batch, to 1.5 % from eight."""


@dataclass
class Moments:
    """Count, sum and second moment of vectors x of one space.

    Each batch is multiplied in the precision that it comes in (at least float32), about the mean of the first one, so
    that a large mean cancels nothing; the sums over batches are float64.
    """

    size: int
    blocks: Tensor | None = None
    """Where only blocks of the second moment are wanted, the places of each along x: (number, c)."""
    count: float = 0.0
    origin: Tensor = field(init=False)
    """The mean of the first batch: (size,)."""
    total: Tensor = field(init=False)
    """sum of x - origin: (size,)."""
    products: Tensor = field(init=False)
    """sum of (x - origin) (x - origin)^T: (size, size), or its blocks (number, c, c)."""

    def __post_init__(self) -> None:
        shape = (self.size, self.size) if self.blocks is None else (*self.blocks.shape, self.blocks.shape[1])
        self.origin, self.total = (torch.zeros(self.size, dtype=torch.float64) for _ in range(2))
        self.products = torch.zeros(shape, dtype=torch.float64)

    def add(self, rows: Tensor) -> None:
        """rows: (n, size), any floating type and device."""
        rows = rows.detach()
        rows = rows.to("cpu", torch.promote_types(rows.dtype, torch.float32))
        if not self.count:
            self.origin += rows.mean(0)
        total, products = rows.new_zeros(self.size), rows.new_zeros(self.products.shape)
        for part in torch.split(rows, ROWS_IN_CACHE):
            centred = part - self.origin.to(rows.dtype)
            total += centred.sum(0)
            _add_products(products, centred, self.blocks)
        self.count += len(rows)
        self.total += total
        self.products += _mirrored(products) if self.blocks is None else products

    @property
    def mean(self) -> Tensor:
        return self.origin + self.total / self.count

    @property
    def second(self) -> Tensor:
        """sum of x x^T: (size, size), or its blocks."""
        return self.products + self.count * (_outer(self.mean, self.blocks) - _outer(self._drift, self.blocks))

    @property
    def uncentred(self) -> Tensor:
        """E[x x^T]: (size, size), or its blocks."""
        return self.second / self.count

    @property
    def covariance(self) -> Tensor:
        """E[(x - mean)(x - mean)^T]: (size, size), or its blocks."""
        return self.products / self.count - _outer(self._drift, self.blocks)

    def blocks_at(self, places: Tensor) -> Tensor:
        """Blocks of E[x x^T] at these places, (number, c): (number, c, c)."""
        if self.blocks is None:
            return self.uncentred[places[:, :, None], places[:, None, :]]
        assert torch.equal(self.blocks, places)
        return self.uncentred

    def divided(self, scale: Tensor) -> "Moments":
        """Those of x / scale, scale: (size,)."""
        result = Moments(self.size, self.blocks, self.count)
        result.origin, result.total = self.origin / scale, self.total / scale
        result.products = self.products / _outer(scale, self.blocks)
        return result

    @property
    def _drift(self) -> Tensor:
        return self.total / self.count


def _add_products(products: Tensor, rows: Tensor, blocks: Tensor | None) -> None:
    """Add the sum of x x^T over rows (n, size), or its blocks; of the whole only what is on and below the diagonal."""
    if blocks is None:
        for start in range(0, len(products), STRIP):
            end = min(start + STRIP, len(products))
            products[start:end, :end].addmm_(rows[:, start:end].T, rows[:, :end])
    elif blocks.shape[1] == 1:
        products += rows.square().sum(0)[blocks][:, :, None]
    else:
        parts = rows[:, blocks].transpose(0, 1)  # (number, n, c)
        products.baddbmm_(parts.transpose(1, 2), parts)


def _mirrored(lower: Tensor) -> Tensor:
    """The symmetric matrix with this lower triangle."""
    return lower.tril() + lower.tril(-1).T


def _outer(vector: Tensor, blocks: Tensor | None) -> Tensor:
    if blocks is None:
        return torch.outer(vector, vector)
    return vector[blocks][:, :, None] * vector[blocks][:, None, :]


def collect_moments(
    module: GraphModule,
    targets: Mapping[Node, int],
    batches: Iterable[Batch],
    blocks: Mapping[Node, Tensor] | None = None,
) -> dict[Node, Moments]:
    """The moments of some nodes' values along one axis each.

    Args:
        module: a traced module, as `trace` keeps it.
        targets: for each node, the axis of its value along which the vectors lie.
        batches: keyword tensors of forward. Where a batch has an `attention_mask` of shape (batch, sequence), the
            positions it masks are left out of every value that begins with these two axes.
        blocks: the nodes of whose second moments only some blocks are wanted, see `Moments`: a diagonal costs nothing.
            Of the others, whose cost grows with the square of their size, a batch's vectors are drawn at random, with a
            fixed seed, where there are more than `ROWS_PER_COORDINATE` times the size and `ROWS_AT_LEAST`.

    Raises:
        InputError: no batches, a batch whose names or shapes do not fit, or activations that are not finite.
    """
    moments: dict[Node, Moments] = {}

    def record(node: Node, value: Any, batch: Batch) -> None:
        if node not in targets:
            return
        rows = _rows(value, targets[node], batch)
        if node not in moments:
            moments[node] = Moments(rows.shape[1], (blocks or {}).get(node))
        drawn = _drawn(rows) if moments[node].blocks is None else rows
        moments[node].add(drawn)
        left_out = rows.sum() if len(drawn) < len(rows) else rows.new_zeros(())
        if not bool(torch.isfinite(moments[node].total).all() and torch.isfinite(left_out)):
            raise InputError(
                f"Calibration met non-finite activations at {node.name} ({node.target}); check the model's weights and "
                "the calibration inputs for NaN or overflow."
            )

    run_batches(module, batches, record, targets)
    return moments


def run_batches(
    module: GraphModule,
    batches: Iterable[Batch],
    observe: Callable[[Node, Any, Batch], None],
    wanted: Collection[Node],
) -> None:
    """Run the traced module on every batch, up to the last wanted node, and show each node's value to `observe`."""
    end = max((i for i, node in enumerate(module.graph.nodes) if node in wanted), default=-1)
    rest = {node for i, node in enumerate(module.graph.nodes) if i > end}
    names = [str(node.target) for node in module.graph.nodes if node.op == "placeholder"]
    seen = False
    for batch in batches:
        seen = True
        missing = [name for name in names if name not in batch]
        if missing:
            raise InputError(
                f"A calibration batch lacks {', '.join(missing)}; it has {', '.join(batch) or 'nothing'}, and "
                f"the model was traced with {', '.join(names)}."
            )
        observer = _Observer(module, batch, observe, rest)
        try:
            with torch.no_grad():
                observer.run(*(batch[name] for name in names), enable_io_processing=False)
        except RuntimeError as error:  # torch's own, of operators
            shapes = ", ".join(f"{name} {tuple(batch[name].shape)}" for name in names)
            raise InputError(
                f"A calibration batch ({shapes}) does not run through the traced model: "
                f"{str(error).strip().splitlines()[0]}. Batches must be like the traced inputs, but for the number "
                "of rows and their length."
            ) from error
    if not seen:
        raise InputError("Calibration needs at least one batch; got none. Pass an iterable of dicts of tensors.")


def _rows(value: Tensor, axis: int, batch: Batch) -> Tensor:
    """The vectors along `axis` as (n, size), without those at masked positions."""
    value = value.movedim(axis, -1)
    mask = batch.get("attention_mask")
    if (
        mask is not None
        and mask.dim() == 2
        and value.dim() >= 3
        and value.shape[:2] == mask.shape
        and not bool(mask.all())
    ):
        return value[mask.bool()].reshape(-1, value.shape[-1])
    return value.reshape(-1, value.shape[-1])


def _drawn(rows: Tensor) -> Tensor:
    """As many of the rows (n, size) as a whole second moment needs; the same of every value with n rows."""
    number, size = rows.shape
    enough = max(ROWS_AT_LEAST, ROWS_PER_COORDINATE * size)
    if number <= enough:
        return rows
    chosen = torch.randperm(number, generator=torch.Generator().manual_seed(number))[:enough]
    return rows[chosen.sort().values.to(rows.device)]


class _Observer(Interpreter):
    """Runs a graph node by node, but for the rest that nobody wants, and reports each value."""

    def __init__(
        self, module: GraphModule, batch: Batch, observe: Callable[[Node, Any, Batch], None], rest: Collection[Node]
    ) -> None:
        super().__init__(module)
        self.extra_traceback = False  # it would append the graph to our own errors
        self._batch = batch
        self._observe = observe
        self._rest = rest

    def run_node(self, n: Node) -> Any:
        if n in self._rest:
            return None
        value = super().run_node(n)
        if n.op in ("call_function", "get_attr"):
            self._observe(n, value, self._batch)
        return value
