"""IO binding: inputs and outputs of ONNX Runtime at fixed places in GPU memory, one set for each shape."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgefold.errors import DeviceError
from edgefold.runtimes.cudart import Cudart
from edgefold.runtimes.transfer_buffers import TransferBuffers

Shapes = tuple[tuple[str, str, tuple[int, ...]], ...]
"""Name, type and shape of every input."""
KEPT = 8
"""Shapes whose buffers are kept; with one more the oldest goes."""
OpenGraph = Callable[[Mapping[str, NDArray[Any]]], Any]
NO_STREAM = ("0", "0x0", "(nil)")
"""How onnxruntime tells that it computes on a stream of its own."""
HOSTS = ("Cpu", "CudaPinned")
"""Names of memory that the CPU reads."""
NO_GRAPH = "-1"
"""onnxruntime's gpu_graph_id of a run that is neither captured nor replayed."""


class GpuStream:
    """A stream of ours that onnxruntime computes on, with two events around the kernels."""

    def __init__(self, cuda: Cudart) -> None:
        self.cuda = cuda
        self.handle = cuda.make_stream()
        self.started, self.ended = cuda.make_event(), cuda.make_event()

    def close(self) -> None:
        for event in (self.started, self.ended):
            self.cuda.end_event(event)
        self.cuda.end_stream(self.handle)


@dataclass
class Bound:
    """The places of one shape, and the session that computes it."""

    session: Any
    buffers: TransferBuffers
    binding: Any
    options: Any
    outputs: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
    on_host: frozenset[str]
    """Inputs that nodes on the CPU read: bound to the GPU, they would be copied back once, when they are bound."""

    def close(self) -> None:
        self.binding = self.session = None
        self.buffers.close()


class IoBinding:
    """Runs of one InferenceSession: copies by way of pinned memory and kernels on one stream, waited for once.

    A shape's first run is plain and tells the sizes of the outputs; then the places are bound, once.

    Args:
        session: opened with that stream as its `user_compute_stream`.
        open_graph: opens a session for the shape of such feeds alone, with its CUDA graph; None for no graphs. Sizes
            that are known are folded, so that nothing is left to compute on the CPU, which no graph could hold.

    Raises:
        DeviceError: the session computes on another stream.
    """

    def __init__(
        self, session: Any, outputs: Sequence[str], stream: GpuStream, open_graph: OpenGraph | None = None
    ) -> None:
        provider = session.get_providers()[0]
        told = session.get_provider_options().get(provider, {}).get("user_compute_stream")
        if told in NO_STREAM:
            raise DeviceError(f"{provider} does not compute on the stream that it was given; leave io_binding out.")
        self._session, self._outputs, self._stream = session, list(outputs), stream
        self._open_graph = open_graph
        self._bound: dict[Shapes, Bound] = {}
        self.gpu_s: float | None = None
        """Seconds of the last run's kernels, between two CUDA events; None after a shape's first run."""

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        shapes = tuple((name, value.dtype.name, value.shape) for name, value in feeds.items())
        if shapes not in self._bound:
            self.gpu_s = None
            return self._bind(shapes, feeds)
        bound, stream = self._bound[shapes], self._stream
        for name, value in feeds.items():
            (bound.buffers.hold if name in bound.on_host else bound.buffers.send)(name, value)
        stream.cuda.record(stream.started, stream.handle)
        bound.session.run_with_iobinding(bound.binding, bound.options)
        stream.cuda.record(stream.ended, stream.handle)
        for name, (shape, dtype) in bound.outputs.items():
            bound.buffers.fetch(name, _size(shape, dtype))
        stream.cuda.wait(stream.handle)
        self.gpu_s = stream.cuda.seconds_between(stream.started, stream.ended)
        return {name: bound.buffers.read(name, shape, dtype) for name, (shape, dtype) in bound.outputs.items()}

    def close(self) -> None:
        for shapes in list(self._bound):
            self._bound.pop(shapes).close()
        self._session = None

    def _bind(self, shapes: Shapes, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        session = self._open_graph(feeds) if self._open_graph else self._session
        on_host = _read_on_host(session)
        if self._open_graph and on_host:
            raise DeviceError(f"A CUDA graph cannot hold what reads {', '.join(sorted(on_host))} on the CPU.")
        found = dict(zip(self._outputs, session.run(self._outputs, feeds, self._options(plain=True)), strict=True))
        if len(self._bound) == KEPT:
            self._bound.pop(next(iter(self._bound))).close()
        bound = Bound(
            session,
            TransferBuffers(self._stream.cuda, self._stream.handle),
            session.io_binding(),
            self._options(plain=False),
            {name: (value.shape, value.dtype) for name, value in found.items()},
            on_host,
        )
        try:
            _bind_places(bound, feeds)
        except BaseException:
            bound.close()
            raise
        self._bound[shapes] = bound
        return found

    def _options(self, *, plain: bool) -> Any:
        """A plain run waits for its kernels and is not captured; of a bound one we wait for the copies behind them."""
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4
        if plain and self._open_graph:
            options.add_run_config_entry("gpu_graph_id", NO_GRAPH)
        if not plain:
            options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return options


def _read_on_host(session: Any) -> frozenset[str]:
    """Inputs that onnxruntime wants in the host's memory."""
    pairs = zip(session.get_inputs(), session.get_input_memory_infos(), strict=True)
    return frozenset(argument.name for argument, memory in pairs if memory.name in HOSTS)


def _bind_places(bound: Bound, feeds: Mapping[str, NDArray[Any]]) -> None:
    buffers, binding = bound.buffers, bound.binding
    for name, value in feeds.items():
        buffers.reserve(name, value.nbytes)
        host = name in bound.on_host
        place = ("cpu", buffers.host_address(name)) if host else ("cuda", buffers.address(name))
        binding.bind_input(name, place[0], 0, value.dtype.type, list(value.shape), place[1])
    for name, (shape, dtype) in bound.outputs.items():
        buffers.reserve(name, _size(shape, dtype))
        binding.bind_output(name, "cuda", 0, dtype.type, list(shape), buffers.address(name))


def _size(shape: Sequence[int], dtype: np.dtype[Any]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
