"""A session on ONNX Runtime: CPU, or CUDA where it is present."""

import time
from collections import Counter
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes.sessions import Arrays, check_feeds

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
HEAVY = {"Attention", "Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
"""Operators that decide the time of a run; shapes and indices are computed on the CPU by design."""


class OnnxRuntimeSession:
    """See `open_session`."""

    runtime = "onnxruntime"

    def __init__(self, artifact: Artifact, *, device: str, threads: int, spinning: bool) -> None:
        if threads < 1:
            raise InputError(f"threads={threads} must be at least 1.")
        self.label = artifact.folder.name
        self.device = device
        self.precision = artifact.precision
        self.inputs = artifact.inputs
        self.outputs = artifact.outputs
        self.generation = artifact.generation
        self.model_sha256 = artifact.files[artifact.model_file].sha256
        self._threads = threads
        self._spinning = spinning
        started = time.perf_counter()
        self._session: Any = _open(artifact, device, _options(threads, spinning))
        self.load_s = time.perf_counter() - started
        self._placement = _placement(self._session)
        _refuse_partial_fall_back(self.label, self._placement, PROVIDERS[device])

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._session is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        check_feeds(self.inputs, feeds)
        names = [spec.name for spec in self.outputs]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:  # onnxruntime's own classes share no base
            shapes = {name: value.shape for name, value in feeds.items()}
            raise InputError(f"{self.label} does not run on {shapes}: {_first_line(error)}") from error

    def settings(self) -> dict[str, Any]:
        return {
            "threads": self._threads,
            "spinning": self._spinning,
            "providers": self._session.get_providers() if self._session else [],
            "nodes": {provider: sum(nodes.values()) for provider, nodes in self._placement.items()},
            "graph_optimization": "all",
            "version": onnxruntime.__version__,
        }

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> "OnnxRuntimeSession":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _options(threads: int, spinning: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; said once is enough
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _open(artifact: Artifact, device: str, options: Any) -> Any:
    """The session, on the provider that was asked for and no other."""
    if device not in PROVIDERS:
        raise InputError(f"There is no device {device!r} for onnxruntime; choose one of {', '.join(PROVIDERS)}.")
    provider = PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise DeviceError(
            f"This onnxruntime has no {provider} (it has {', '.join(available)}); install onnxruntime-gpu for CUDA, "
            "or use device='cpu'."
        )
    try:
        session = onnxruntime.InferenceSession(str(artifact.model_path), options, providers=[provider])
    except Exception as error:  # onnxruntime's own classes share no base
        raise InputError(f"onnxruntime cannot open {artifact.model_path}: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise DeviceError(
            f"onnxruntime fell back from {provider} to {session.get_providers()[0]}; check the driver and CUDA "
            "libraries, or use device='cpu'."
        )
    return session


def _placement(session: Any) -> dict[str, Counter[str]]:
    """Execution provider -> how many nodes of each operator it was given; empty where onnxruntime does not tell."""
    placement: dict[str, Counter[str]] = {}
    if hasattr(session, "get_provider_graph_assignment_info"):
        for subgraph in session.get_provider_graph_assignment_info():
            placement.setdefault(subgraph.ep_name, Counter()).update(node.op_type for node in subgraph.get_nodes())
    return placement


def _refuse_partial_fall_back(label: str, placement: Mapping[str, Counter[str]], provider: str) -> None:
    """A session that computes its matrix products elsewhere than asked must not be measured under that name."""
    for other, nodes in placement.items():
        strays = {operator: count for operator, count in sorted(nodes.items()) if operator in HEAVY}
        if other != provider and strays:
            listed = ", ".join(f"{count} {operator}" for operator, count in strays.items())
            raise DeviceError(
                f"{label} would run {listed} on {other} although {provider} was asked for; export it in a precision "
                "and for a target that this device runs, or use device='cpu'."
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
