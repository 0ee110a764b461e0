"""A session on ONNX Runtime: CPU, or an NVIDIA GPU by its CUDA or TensorRT provider."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes.agent.onnx_models import (
    describe_onnx,
    find_provider,
    first_line,
    open_onnx,
    preload_gpu_libraries,
)
from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.cudart import open_cudart
from edgefold.runtimes.host_errors import error_of
from edgefold.runtimes.io_binding import GpuStream, IoBinding
from edgefold.runtimes.local_sessions import LocalSession
from edgefold.runtimes.sessions import Arrays
from edgefold.tensorrt_modules import import_tensorrt

TENSORRT = ("tensorrt", "tensorrt_bindings")
"""Modules that load the libraries which onnxruntime's TensorRT provider needs, where the system has none."""
GRAPH_OPTION = {"cuda": "enable_cuda_graph", "tensorrt": "trt_cuda_graph_enable"}

TENSORRT_OPTION = {"fp16": "trt_fp16_enable", "int8": "trt_int8_enable"}
"""What TensorRT 10 must be allowed for a graph of that precision; the graph says where."""


class OnnxRuntimeSession(LocalSession):
    """See `open_session`."""

    runtime = "onnxruntime"

    def __init__(
        self,
        artifact: Artifact,
        *,
        device: str,
        threads: int,
        spinning: bool,
        provider: str | None = None,
        io_binding: bool = False,
        cuda_graph: bool = False,
        tf32: bool = False,
    ) -> None:
        if threads < 1:
            raise InputError(f"threads={threads} must be at least 1.")
        _check_gpu_settings(device, provider, io_binding, cuda_graph, tf32)
        super().__init__(artifact, device)
        self._names = [spec.name for spec in self.outputs]
        self._binding: IoBinding | None = None
        self._stream: GpuStream | None = None
        started = time.perf_counter()
        common: Any = {"threads": threads, "spinning": spinning}
        try:
            find_provider(device, provider)
            if provider == "tensorrt":
                with contextlib.suppress(DeviceError):  # its package loads the libraries that the provider needs
                    import_tensorrt(TENSORRT)
            if io_binding:
                preload_gpu_libraries()  # the CUDA runtime among them
                self._stream = GpuStream(open_cudart())
            options = _gpu_options(device, provider, artifact.precision, tf32, self._stream)
            path, placing = str(artifact.model_path), {"device": device, "provider": provider, **common}
            self._session: Any = open_onnx(path, self.label, gpu_options=options, **placing)
        except Refused as refused:
            self._end_stream()
            raise error_of(refused.kind, refused.message) from refused.__cause__
        if self._stream:
            graphs = {**options, GRAPH_OPTION[provider or "cuda"]: "1"} if cuda_graph else {}

            def open_graph(feeds: Mapping[str, NDArray[Any]]) -> Any:
                return open_onnx(path, self.label, gpu_options=graphs, sizes=self._sizes(feeds), **placing)

            try:
                opener = open_graph if cuda_graph else None
                self._binding = IoBinding(self._session, self._names, self._stream, opener)
            except DeviceError:
                self.close()
                raise
        self.load_s = time.perf_counter() - started
        self._settings = describe_onnx(self._session, **common)
        if device != "cpu":
            shown = {key: value for key, value in options.items() if key != "user_compute_stream"}
            binding = "device" if io_binding else "host"
            self._settings |= {"provider": provider or "cuda", "provider_options": shown, "io_binding": binding}
            self._settings["cuda_graph"] = cuda_graph

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._session is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        self._check(feeds)
        try:
            if self._binding is None:
                return dict(zip(self._names, self._session.run(self._names, feeds), strict=True))
            found = self._binding.run(feeds)
            self.gpu_s = self._binding.gpu_s
            return found
        except DeviceError:
            raise
        except Refused as refused:  # a graph that cannot be captured, at the first run of a shape
            raise error_of(refused.kind, refused.message) from refused.__cause__
        except Exception as error:  # onnxruntime's own classes share no base
            shapes = {name: value.shape for name, value in feeds.items()}
            raise InputError(f"{self.label} does not run on {shapes}: {first_line(error)}") from error

    def close(self) -> None:
        if self._binding is not None:
            self._binding.close()
        self._session = self._binding = None
        self._end_stream()

    def _sizes(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, int]:
        """Of every dimension with a name, sums among them."""
        pairs = (pair for spec in self.inputs for pair in zip(spec.shape, feeds[spec.name].shape, strict=True))
        return {name: size for name, size in pairs if isinstance(name, str)}

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


def _check_gpu_settings(device: str, provider: str | None, io_binding: bool, cuda_graph: bool, tf32: bool) -> None:
    asked = [name for name, on in (("io_binding", io_binding), ("cuda_graph", cuda_graph), ("tf32", tf32)) if on]
    if device == "cpu" and asked:
        raise InputError(f"{asked[0]} is for device='cuda'; leave it out on the CPU.")
    if cuda_graph and not io_binding:
        raise InputError("cuda_graph replays on fixed addresses, so it takes io_binding as well; ask for both.")
    if cuda_graph and (provider or "cuda") not in GRAPH_OPTION:
        raise InputError(f"provider={provider!r} takes no cuda_graph; choose one of {', '.join(GRAPH_OPTION)}.")
    if tf32 and (provider or "cuda") != "cuda":
        raise InputError(f"tf32 is an option of provider='cuda'; got provider={provider!r}.")


def _gpu_options(
    device: str, provider: str | None, precision: str, tf32: bool, stream: GpuStream | None
) -> dict[str, str]:
    """Of the provider, as onnxruntime names them; TF32, with three digits of fp32's seven, is off unless asked for."""
    if device == "cpu":
        return {}
    name = provider or "cuda"
    options = {"device_id": "0"} | ({"use_tf32": "1" if tf32 else "0"} if name == "cuda" else {})
    if stream is not None:
        options["user_compute_stream"] = str(stream.handle)
    if name == "tensorrt" and precision in TENSORRT_OPTION:
        options[TENSORRT_OPTION[precision]] = "1"
    return options
