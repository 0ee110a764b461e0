"""A session on TensorRT itself: numpy arrays in and out, copies by way of pinned memory, times by CUDA events.

One path for TensorRT 8.5 to 11 and TensorRT-RTX (`set_tensor_address`, `execute_async_v3`); TensorRT 8 takes int64 as
int32, so arrays are cast to what the engine has. What has been run: all of it against a double of TensorRT and of
libcudart that computes, in tests/test_tensorrt_session.py; and on an H200 the refusal of TensorRT-RTX 1.7, which does
not serve its compute capability 9.0. What has not: an engine on a GPU, for which there are tests marked `tensorrt`.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes.cudart import Cudart, open_cudart
from edgefold.runtimes.engine_tensors import EngineTensors, Shape
from edgefold.runtimes.local_sessions import LocalSession
from edgefold.runtimes.sessions import Arrays
from edgefold.runtimes.tensorrt_messages import listen
from edgefold.runtimes.transfer_buffers import TransferBuffers
from edgefold.tensorrt_modules import RUNNERS, describe, import_tensorrt

DEVICE = "cuda"


class TensorRtSession(LocalSession):
    """See `open_session`."""

    runtime = "tensorrt"

    def __init__(
        self, artifact: Artifact, *, device: str, threads: int, spinning: bool, cuda_graph: bool = False
    ) -> None:
        """cuda_graph: whether the kernels of a shape, from its second run on, are launched as one graph."""
        if device != DEVICE:
            raise InputError(f"There is no device {device!r} for tensorrt; give device='{DEVICE}'.")
        super().__init__(artifact, device)
        started = time.perf_counter()
        trt = import_tensorrt(RUNNERS)
        self._cuda: Cudart = open_cudart()
        self._engine = _open_engine(trt, artifact)
        self._tensors = EngineTensors(trt, self._engine, self.label)
        self._tensors.check_against(artifact.inputs, artifact.outputs)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise DeviceError(f"{describe(trt)} has no memory on the GPU to run {self.label}; free some of it.")
        self._uses_graphs = cuda_graph
        self._graph: int | None = None
        self._last_shapes: dict[str, Shape] = {}
        self._profile = 0
        self._stream = self._cuda.make_stream()
        self._events = (self._cuda.make_event(), self._cuda.make_event())
        self._buffers: TransferBuffers | None = TransferBuffers(self._cuda, self._stream)
        self.load_s = time.perf_counter() - started
        self._settings = {
            "version": describe(trt),
            "threads": threads,
            "spinning": spinning,
            "cuda_graph": cuda_graph,
            "profiles": [dict(profile) for profile in self._tensors.profiles],
            "engine": artifact.lineage.get("engine"),
        }

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        buffers = self._buffers
        if buffers is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        self._check(feeds)
        arrays = {name: _cast(name, feeds[name], self._tensors.dtypes[name]) for name in self._tensors.inputs}
        shapes = self._set_shapes({name: array.shape for name, array in arrays.items()})
        self._set_addresses(buffers, shapes)
        for name, array in arrays.items():
            buffers.send(name, array)
        self._compute(shapes)
        for name in self._tensors.outputs:
            buffers.fetch(name, self._bytes(name, shapes[name]))
        self._cuda.wait(self._stream)
        self.gpu_s = self._cuda.seconds_between(*self._events)
        return {
            spec.name: buffers.read(spec.name, shapes[spec.name], self._tensors.dtypes[spec.name]).astype(
                spec.dtype, copy=False
            )
            for spec in self.outputs
        }

    def close(self) -> None:
        if self._buffers is None:
            return
        self._drop_graph()
        self._buffers.close()
        self._buffers = None
        for event in self._events:
            self._cuda.end_event(event)
        self._cuda.end_stream(self._stream)
        self._context = self._engine = None

    def _set_shapes(self, shapes: dict[str, Shape]) -> dict[str, Shape]:
        """Choose the profile, set the inputs' shapes, and return those of all tensors."""
        profile = self._tensors.find_profile(shapes)
        if profile != self._profile:
            if not self._context.set_optimization_profile_async(profile, self._stream):
                raise DeviceError(f"{self.label} does not change to its profile {profile}.")
            self._profile = profile
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                raise InputError(f"{self.label} does not take {name} of the shape {shape}.")
        found = shapes | {name: tuple(self._context.get_tensor_shape(name)) for name in self._tensors.outputs}
        if unknown := [name for name, shape in found.items() if any(size < 0 for size in shape)]:
            raise InputError(f"The shape of {unknown[0]} depends on values of {self.label}, which is not supported.")
        return found

    def _set_addresses(self, buffers: TransferBuffers, shapes: Mapping[str, Shape]) -> None:
        """Room for every tensor; a graph is of one shape and one set of addresses, and goes with them."""
        moved = [buffers.reserve(name, self._bytes(name, shape)) for name, shape in shapes.items()]
        if any(moved) or shapes != self._last_shapes:
            self._drop_graph()
            self._last_shapes = {}
        for name in shapes:
            self._context.set_tensor_address(name, buffers.address(name))

    def _compute(self, shapes: dict[str, Shape]) -> None:
        """Put the kernels on the stream, between the two events."""
        if self._uses_graphs and self._graph is None and shapes == self._last_shapes:  # a shape's first run is plain
            self._cuda.wait(self._stream)
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        self._cuda.record(self._events[0], self._stream)
        if self._graph is None:
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)
        self._cuda.record(self._events[1], self._stream)
        self._last_shapes = shapes

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            raise DeviceError(f"{self.label} does not run; TensorRT's message stands on stderr.")

    def _bytes(self, name: str, shape: Shape) -> int:
        return int(np.prod(shape, dtype=np.int64)) * self._tensors.dtypes[name].itemsize

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._cuda.end_graph(self._graph)
        self._graph = None


def _open_engine(trt: Any, artifact: Artifact) -> Any:
    messages = listen(trt)
    messages.take()
    engine = trt.Runtime(messages.logger).deserialize_cuda_engine(artifact.model_path.read_bytes())
    if engine is None:
        reason = messages.take()
        facts = artifact.lineage.get("engine") or {}
        built: dict[str, Any] = next(iter(facts.values()), {})
        raise DeviceError(
            f"{describe(trt)} cannot open {artifact.model_path}, which was built with "
            f"{built.get('tensorrt', artifact.target)} on {built.get('gpu') or 'no GPU'}"
            f"{f' ({reason})' if reason else ''}; an engine runs on the GPU and the release that it was built for: "
            "build it here from its ONNX artifact (edgefold export ARTIFACT --format tensorrt), if they serve this GPU."
        )
    return engine


def _cast(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As the engine takes it; whole numbers that do not fit are refused, not wrapped round."""
    cast = array.astype(dtype, copy=False)
    if dtype.kind == "i" and not np.array_equal(cast, array):
        raise InputError(f"Input {name} has values beyond {dtype.name}, which the engine takes.")
    return cast
