"""For each tensor of an engine a pair of buffers, pinned on the host and on the GPU, that grow with what they hold."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from edgefold.runtimes.cudart import DEVICE_TO_HOST, HOST_TO_DEVICE, Cudart


class TransferBuffers:
    """Buffers by the name of their tensor, on one stream."""

    def __init__(self, cuda: Cudart, stream: int) -> None:
        self._cuda, self._stream = cuda, stream
        self._pinned: dict[str, int] = {}
        self._device: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def reserve(self, name: str, size: int) -> bool:
        """Room for `size` bytes; whether the addresses have changed for it."""
        if name in self._sizes and size <= self._sizes[name]:
            return False
        self._release(name)
        room = max(size, 1)  # an empty tensor has an address too
        self._device[name] = self._cuda.allocate(room)
        self._pinned[name] = self._cuda.allocate_pinned(room)
        self._sizes[name] = room
        return True

    def address(self, name: str) -> int:
        """On the GPU."""
        return self._device[name]

    def host_address(self, name: str) -> int:
        return self._pinned[name]

    def hold(self, name: str, array: NDArray[Any]) -> None:
        """Copy to the host's buffer alone."""
        array = np.ascontiguousarray(array)
        ctypes.memmove(self._pinned[name], array.ctypes.data, array.nbytes)

    def send(self, name: str, array: NDArray[Any]) -> None:
        """Put the copy to the GPU on the stream; the array may be changed at once."""
        self.hold(name, array)
        self._cuda.copy(self._device[name], self._pinned[name], array.nbytes, HOST_TO_DEVICE, self._stream)

    def fetch(self, name: str, size: int) -> None:
        """Put the copy from the GPU on the stream."""
        self._cuda.copy(self._pinned[name], self._device[name], size, DEVICE_TO_HOST, self._stream)

    def read(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """What was fetched, once the stream was waited for, as an array of its own."""
        array = np.empty(shape, dtype)
        ctypes.memmove(array.ctypes.data, self._pinned[name], array.nbytes)
        return array

    def close(self) -> None:
        for name in {**self._device, **self._pinned}:  # where memory ran out, one has no other
            self._release(name)

    def _release(self, name: str) -> None:
        if name in self._device:
            self._cuda.free(self._device.pop(name))
        if name in self._pinned:
            self._cuda.free_pinned(self._pinned.pop(name))
        self._sizes.pop(name, None)
