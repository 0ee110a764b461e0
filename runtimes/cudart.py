"""The CUDA runtime by ctypes: memory, a stream, events and graphs, each call checked; no CUDA package is needed."""

import contextlib
import ctypes
import os
import site
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from pathlib import Path
from typing import Any

from edgefold.errors import DeviceError

VARIABLE = "EDGEFOLD_CUDART"
"""Environment variable with the path of libcudart."""
NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
"""cudaMemcpyKind."""
NON_BLOCKING = 1
"""cudaStreamNonBlocking."""
THREAD_LOCAL = 1
"""cudaStreamCaptureModeThreadLocal: what other threads do meanwhile is their own."""


def find_cudart(load: Callable[[str], Any] = ctypes.CDLL) -> tuple[str, Any]:
    """The library and where it was found: $EDGEFOLD_CUDART, the system's, or that of NVIDIA's packages.

    Raises:
        DeviceError: there is none.
    """
    tried = []
    for name in _candidates():
        try:
            return name, load(name)
        except OSError as error:
            tried.append(str(error))
    raise DeviceError(
        f"There is no libcudart here ({tried[0]}); on a Jetson install the package cuda-cudart, elsewhere pip install "
        f"nvidia-cuda-runtime, or set {VARIABLE} to its path."
    )


def open_cudart(index: int = 0, load: Callable[[str], Any] = ctypes.CDLL) -> "Cudart":
    """The runtime, on GPU `index`.

    Raises:
        DeviceError: no library, no driver or no such GPU.
    """
    cuda = Cudart(find_cudart(load)[1])
    count = ctypes.c_int()
    cuda.call("cudaGetDeviceCount", ctypes.byref(count))
    if index >= count.value:
        raise DeviceError(f"There is no GPU {index} here; CUDA shows {count.value}.")
    cuda.call("cudaSetDevice", index)
    return cuda


def _candidates() -> Iterator[str]:
    if chosen := os.environ.get(VARIABLE):
        yield chosen
        return
    if found := find_library("cudart"):
        yield found
    yield from NAMES
    for folder in site.getsitepackages():
        yield from map(str, sorted(Path(folder, "nvidia").glob("*/lib/libcudart.so.*"), reverse=True))


class Cudart:
    """Calls of libcudart; addresses and handles are plain integers."""

    def __init__(self, library: Any) -> None:
        self._library = library
        library.cudaGetErrorString.restype = ctypes.c_char_p

    def call(self, name: str, *arguments: Any) -> None:
        """Raises DeviceError where CUDA reports one."""
        status = getattr(self._library, name)(*arguments)
        if status:
            told = self._library.cudaGetErrorString(status)
            raise DeviceError(f"{name} failed: {told.decode()} (CUDA status {status}).")

    def allocate(self, size: int) -> int:
        """Memory of the GPU, in bytes."""
        return self._made("cudaMalloc", ctypes.c_size_t(size))

    def free(self, address: int) -> None:
        self.call("cudaFree", ctypes.c_void_p(address))

    def allocate_pinned(self, size: int) -> int:
        """Memory of the host that the GPU copies from and to by itself."""
        return self._made("cudaMallocHost", ctypes.c_size_t(size))

    def free_pinned(self, address: int) -> None:
        self.call("cudaFreeHost", ctypes.c_void_p(address))

    def copy(self, to: int, source: int, size: int, kind: int, stream: int) -> None:
        """Put a copy on the stream."""
        ends = (ctypes.c_void_p(to), ctypes.c_void_p(source))
        self.call("cudaMemcpyAsync", *ends, ctypes.c_size_t(size), kind, ctypes.c_void_p(stream))

    def make_stream(self) -> int:
        """One that does not wait for what others put on the default stream, which would also end a capture."""
        return self._made("cudaStreamCreateWithFlags", ctypes.c_uint(NON_BLOCKING))

    def end_stream(self, stream: int) -> None:
        self.call("cudaStreamDestroy", ctypes.c_void_p(stream))

    def wait(self, stream: int) -> None:
        """Until all that was put on the stream is done."""
        self.call("cudaStreamSynchronize", ctypes.c_void_p(stream))

    def make_event(self) -> int:
        return self._made("cudaEventCreate")

    def end_event(self, event: int) -> None:
        self.call("cudaEventDestroy", ctypes.c_void_p(event))

    def record(self, event: int, stream: int) -> None:
        self.call("cudaEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def seconds_between(self, first: int, last: int) -> float:
        milliseconds = ctypes.c_float()
        ends = (ctypes.c_void_p(first), ctypes.c_void_p(last))
        self.call("cudaEventElapsedTime", ctypes.byref(milliseconds), *ends)
        return milliseconds.value / 1e3

    def capture(self, stream: int, work: Callable[[], None]) -> int:
        """An executable graph of what `work` puts on the stream, which is not done meanwhile."""
        self.call("cudaStreamBeginCapture", ctypes.c_void_p(stream), THREAD_LOCAL)
        try:
            work()
        except BaseException:
            with contextlib.suppress(DeviceError):  # what went wrong in the work is told, not what followed from it
                self.call("cudaGraphDestroy", ctypes.c_void_p(self._end_capture(stream)))
            raise
        graph = self._end_capture(stream)
        try:
            return self._made("cudaGraphInstantiateWithFlags", ctypes.c_void_p(graph), ctypes.c_ulonglong(0))
        finally:
            self.call("cudaGraphDestroy", ctypes.c_void_p(graph))

    def launch(self, graph: int, stream: int) -> None:
        self.call("cudaGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def end_graph(self, graph: int) -> None:
        self.call("cudaGraphExecDestroy", ctypes.c_void_p(graph))

    def _made(self, name: str, *arguments: Any) -> int:
        """What a call writes to its first argument."""
        made = ctypes.c_void_p()
        self.call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def _end_capture(self, stream: int) -> int:
        graph = ctypes.c_void_p()
        self.call("cudaStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        return graph.value or 0
