"""A double of onnxruntime on a GPU: IO binding to addresses of a FakeCuda, a graph, work queued on the stream.

What is bound is read and written when the stream gets there, so that whoever reads outputs too early reads garbage; a
graph replays on the addresses that it was captured on.
"""

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
from fake_cuda import FakeCuda

CUDA = "CUDAExecutionProvider"
Place = tuple[str, np.dtype[Any], tuple[int, ...], int]
REAL = onnxruntime.InferenceSession


class Binding:
    def __init__(self) -> None:
        self.inputs: list[Place] = []
        self.outputs: list[Place] = []

    def bind_input(self, name: str, device: str, index: int, kind: Any, shape: list[int], address: int) -> None:
        assert index == 0
        assert (device == "cpu") == (name in FakeGpuSession.on_host), "it would be copied once, and then be stale"
        self.inputs.append((name, np.dtype(kind), tuple(shape), address))

    def bind_output(self, name: str, device: str, index: int, kind: Any, shape: list[int], address: int) -> None:
        assert (device, index) == ("cuda", 0)
        self.outputs.append((name, np.dtype(kind), tuple(shape), address))


class FakeGpuSession:
    """InferenceSession as it would be with a GPU; the numbers are those of the CPU's."""

    on_host: tuple[str, ...] = ()
    """Inputs that nodes on the CPU read."""

    def __init__(self, cuda: FakeCuda, path: str, providers: list[Any]) -> None:
        self.cuda, self.providers = cuda, providers
        self.real = REAL(path)
        self.options = dict(providers[0][1])
        self.graph: Binding | None = None
        self.replays = 0
        self.asked: list[dict[str, str]] = []

    def get_providers(self) -> list[str]:
        return [*(name for name, _ in self.providers), "CPUExecutionProvider"]

    def get_provider_options(self) -> dict[str, Any]:
        return {self.providers[0][0]: self.options}

    def get_inputs(self) -> Any:
        return self.real.get_inputs()

    def get_input_memory_infos(self) -> list[Any]:
        return [SimpleNamespace(name="Cpu" if i.name in self.on_host else "Cuda") for i in self.get_inputs()]

    def io_binding(self) -> Binding:
        return Binding()

    def run(self, names: list[str], feeds: Any, options: Any = None) -> Any:
        if self.options.get("enable_cuda_graph") == "1":
            assert options.get_run_config_entry("gpu_graph_id") == "-1", "a plain run would be captured"
        return self.real.run(names, feeds)

    def run_with_iobinding(self, binding: Binding, options: Any) -> None:
        assert options.get_run_config_entry("disable_synchronize_execution_providers") == "1"
        used = binding
        if self.options.get("enable_cuda_graph") == "1":
            self.replays += self.graph is not None
            used = self.graph = self.graph or binding
        self.cuda.enqueue(int(self.options["user_compute_stream"]), lambda: self._compute(used))

    def _compute(self, binding: Binding) -> None:
        feeds = {name: self._view(kind, shape, address) for name, kind, shape, address in binding.inputs}
        found = self.real.run([name for name, *_ in binding.outputs], feeds)
        for (_, kind, shape, address), value in zip(binding.outputs, found, strict=True):
            self._view(kind, shape, address)[...] = value

    def _view(self, kind: np.dtype[Any], shape: tuple[int, ...], address: int) -> Any:
        size = int(np.prod(shape)) * kind.itemsize
        assert self.cuda.holds(address, size) or address in self.cuda.pinned_memory, "that is no memory of the GPU"
        return np.frombuffer((ctypes.c_char * size).from_address(address), kind).reshape(shape)


def pretend_gpu(monkeypatch: Any, cuda: FakeCuda, *names: str) -> list[FakeGpuSession]:
    """Let onnxruntime have these providers; the sessions that are opened from then on."""
    opened: list[FakeGpuSession] = []

    def open_session(path: str, options: Any, providers: list[Any], enable_fallback: int) -> FakeGpuSession:
        assert not enable_fallback
        opened.append(FakeGpuSession(cuda, path, providers))
        return opened[-1]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*names, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("libraries"), raising=False)
    return opened
