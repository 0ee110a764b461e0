"""A double of the CUDA runtime in host memory, for tests of what calls it by ctypes.

Work on a stream is queued and done when the stream is waited for, so whoever reads a result too early reads what was
there before. Memory is real (copies and kernels work on it); copies in the wrong direction, unknown handles and capture
out of order fail as they do in CUDA.
"""

import ctypes
import time
from collections.abc import Callable
from typing import Any

Work = Callable[[], None]
INVALID, HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 1, 2


class FakeCuda:
    """The functions of libcudart that edgefold calls, each returning CUDA's status."""

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.device_memory: dict[int, Any] = {}
        self.pinned_memory: dict[int, Any] = {}
        self.streams: dict[int, list[Work]] = {}
        self.captures: dict[int, list[Work]] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.events: dict[int, float | None] = {}
        self.launches = 0
        self.failing: set[str] = set()
        self._handles = iter(range(1000, 10**9))

    def alive(self) -> int:
        """Handles and allocations that were not given back."""
        kinds = (self.device_memory, self.pinned_memory, self.streams, self.graphs, self.events)
        return sum(map(len, kinds))

    def enqueue(self, stream: int, work: Work) -> None:
        """Put work on a stream, or into the graph that is being captured on it."""
        (self.captures if stream in self.captures else self.streams)[stream].append(work)

    def holds(self, address: int, size: int) -> bool:
        """Whether that is memory of the device."""
        return any(start <= address and address + size <= start + len(b) for start, b in self.device_memory.items())

    def __getattr__(self, name: str) -> Any:
        known = getattr(type(self), f"_{name}", None) if name.startswith("cuda") else None
        if known is None:
            raise AttributeError(f"undefined symbol: {name}")
        return lambda *arguments: 2 if name in self.failing else (known(self, *arguments) or 0)

    def _cudaGetErrorString(self, status: int) -> bytes:
        return {1: b"invalid argument", 2: b"out of memory", 100: b"no CUDA-capable device is detected"}[status]

    def _cudaGetDeviceCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0 if self.devices else 100

    def _cudaSetDevice(self, index: int) -> int:
        return 0 if index < self.devices else 101

    def _cudaMalloc(self, out: Any, size: Any) -> None:
        self._allocate(self.device_memory, out, size)

    def _cudaMallocHost(self, out: Any, size: Any) -> None:
        self._allocate(self.pinned_memory, out, size)

    def _allocate(self, kind: dict[int, Any], out: Any, size: Any) -> None:
        buffer = ctypes.create_string_buffer(b"\xa5" * _number(size), _number(size))
        out._obj.value = ctypes.addressof(buffer)
        kind[ctypes.addressof(buffer)] = buffer

    def _cudaFree(self, address: Any) -> int:
        return 0 if self.device_memory.pop(_number(address), None) else INVALID

    def _cudaFreeHost(self, address: Any) -> int:
        return 0 if self.pinned_memory.pop(_number(address), None) else INVALID

    def _cudaMemcpyAsync(self, to: Any, source: Any, size: Any, kind: int, stream: Any) -> int:
        to, source, size = _number(to), _number(source), _number(size)
        on_device = {HOST_TO_DEVICE: (True, False), DEVICE_TO_HOST: (False, True)}[kind]
        if (self.holds(to, size), self.holds(source, size)) != on_device:
            return INVALID
        self.enqueue(_number(stream), lambda: ctypes.memmove(to, source, size) and None)
        return 0

    def _cudaStreamCreateWithFlags(self, out: Any, flags: Any) -> None:
        out._obj.value = next(self._handles)
        self.streams[out._obj.value] = []

    def _cudaStreamDestroy(self, stream: Any) -> int:
        return 0 if self.streams.pop(_number(stream), None) is not None else INVALID

    def _cudaStreamSynchronize(self, stream: Any) -> int:
        work = self.streams.get(_number(stream))
        if work is None or _number(stream) in self.captures:
            return INVALID
        while work:
            work.pop(0)()
        return 0

    def _cudaEventCreate(self, out: Any) -> None:
        out._obj.value = next(self._handles)
        self.events[out._obj.value] = None

    def _cudaEventDestroy(self, event: Any) -> int:
        return 0 if self.events.pop(_number(event), INVALID) != INVALID else INVALID

    def _cudaEventRecord(self, event: Any, stream: Any) -> int:
        if _number(event) not in self.events or _number(stream) not in self.streams:
            return INVALID
        self.enqueue(_number(stream), lambda: self.events.update({_number(event): time.perf_counter()}))
        return 0

    def _cudaEventElapsedTime(self, out: Any, first: Any, last: Any) -> int:
        start, end = self.events[_number(first)], self.events[_number(last)]
        if start is None or end is None:
            return INVALID
        out._obj.value = (end - start) * 1e3
        return 0

    def _cudaStreamBeginCapture(self, stream: Any, mode: int) -> int:
        if _number(stream) not in self.streams or self.streams[_number(stream)]:
            return INVALID
        self.captures[_number(stream)] = []
        return 0

    def _cudaStreamEndCapture(self, stream: Any, out: Any) -> None:
        out._obj.value = next(self._handles)
        self.graphs[out._obj.value] = self.captures.pop(_number(stream))

    def _cudaGraphInstantiateWithFlags(self, out: Any, graph: Any, flags: int) -> None:
        out._obj.value = next(self._handles)
        self.graphs[out._obj.value] = list(self.graphs[_number(graph)])

    def _cudaGraphLaunch(self, executable: Any, stream: Any) -> None:
        self.launches += 1
        for work in self.graphs[_number(executable)]:
            self.enqueue(_number(stream), work)

    def _cudaGraphDestroy(self, graph: Any) -> None:
        del self.graphs[_number(graph)]

    def _cudaGraphExecDestroy(self, executable: Any) -> None:
        del self.graphs[_number(executable)]


def _number(value: Any) -> int:
    return int(value.value or 0) if hasattr(value, "value") else int(value)
