"""Models in ONNX Runtime: opened on the provider that was asked for and no other."""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnxruntime

from edgefold.runtimes.agent.refusals import Refused

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
GPU_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": "NvTensorRTRTXExecutionProvider",
}
"""What may compute on the device "cuda", by the names that `provider` takes."""
HOW_TO_GET = {
    "CUDAExecutionProvider": "pip install onnxruntime-gpu in place of onnxruntime",
    "TensorrtExecutionProvider": "pip install onnxruntime-gpu in place of onnxruntime, and TensorRT 10 beside it",
    "NvTensorRTRTXExecutionProvider": "it takes a build of onnxruntime for TensorRT-RTX",
}
HEAVY = {"Attention", "Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
"""Operators that decide the time of a run; shapes and indices are computed on the CPU by design."""
TOO_NEW = ("Could not find an implementation for", "No Op registered for", "is under development")
"""What is said of operators and opsets that this version of the runtime does not have."""
SHARED = ("device_id", "user_compute_stream")
"""Options of a GPU's providers that all of one session must have alike."""


def open_onnx(
    path: str,
    label: str,
    *,
    device: str,
    threads: int,
    spinning: bool,
    provider: str | None = None,
    gpu_options: Mapping[str, str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Any:
    """An InferenceSession on `device`.

    Args:
        provider: of a GPU, one of `GPU_PROVIDERS`; "cuda" by default.
        gpu_options: of that provider.
        sizes: of named dimensions, for which alone the graph is then folded.

    Raises:
        Refused: an unknown device, a file that is no model, or a provider that is missing or would not do the work.
    """
    name = find_provider(device, provider)
    if name == PROVIDERS["cpu"]:
        chosen: list[Any] = [name]
    else:
        preload_gpu_libraries()
        chosen = [(name, dict(gpu_options or {}))]
        if name != PROVIDERS["cuda"]:  # what is not for it, as sizes and indices, stays on the GPU
            shared = {key: value for key, value in (gpu_options or {}).items() if key in SHARED}
            chosen.append((PROVIDERS["cuda"], shared))
    try:
        settings = _options(threads, spinning, sizes or {})
        session = onnxruntime.InferenceSession(path, settings, providers=chosen, enable_fallback=0)
    except Exception as error:  # onnxruntime's own classes share no base
        told = f"onnxruntime cannot open {path}"
        if device == "cpu":
            raise Refused("input", f"{told}: {first_line(error)}{_advice(error)}") from error
        raise Refused("device", f"{told} on {name}, for which {HOW_TO_GET[name]}: {first_line(error)}") from error
    if session.get_providers()[0] != name:
        raise Refused(
            "device",
            f"onnxruntime fell back from {name} to {session.get_providers()[0]}; check the driver and the libraries of "
            "CUDA, cuDNN and TensorRT that it needs (edgefold doctor), or use device='cpu'.",
        )
    _refuse_partial_fall_back(label, _placement(session), name)
    return session


def find_provider(device: str, provider: str | None = None) -> str:
    """The execution provider by onnxruntime's name, which this onnxruntime has.

    Raises:
        Refused: an unknown device or provider, or one that this onnxruntime was built without.
    """
    if device not in PROVIDERS:
        raise Refused("input", f"There is no device {device!r} for onnxruntime; choose one of {', '.join(PROVIDERS)}.")
    if provider is not None and (device == "cpu" or provider not in GPU_PROVIDERS):
        raise Refused(
            "input",
            f"provider={provider!r} on {device} is not known; on cuda choose one of {', '.join(GPU_PROVIDERS)}, on cpu "
            "leave it out.",
        )
    name = GPU_PROVIDERS[provider] if provider else PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if name not in available:
        raise Refused(
            "device",
            f"This onnxruntime has no {name} (it has {', '.join(available)}); {HOW_TO_GET.get(name, 'reinstall it')}, "
            "or use device='cpu'.",
        )
    return name


def preload_gpu_libraries() -> None:
    """Load CUDA and cuDNN from NVIDIA's Python packages, where onnxruntime knows how; else the system's are found."""
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        with contextlib.redirect_stdout(io.StringIO()):  # what is missing is told when the session is opened
            onnxruntime.preload_dlls()


def describe_onnx(session: Any, *, threads: int, spinning: bool) -> dict[str, Any]:
    """All that decides about speed, of JSON's types."""
    return {
        "threads": threads,
        "spinning": spinning,
        "providers": session.get_providers(),
        "nodes": {provider: sum(nodes.values()) for provider, nodes in _placement(session).items()},
        "graph_optimization": "all",
        "version": onnxruntime.__version__,
    }


def first_line(error: Exception) -> str:
    """onnxruntime's messages are long; the first line says it."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _advice(error: Exception) -> str:
    """What to do where the graph is newer than the runtime."""
    if not any(sign in str(error) for sign in TOO_NEW):
        return ""
    return (
        f"; this onnxruntime is {onnxruntime.__version__}: install a newer one (int8 for x86 needs 1.24), or export "
        "with --opset 20."
    )


def _options(threads: int, spinning: bool, sizes: Mapping[str, int]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; said once is enough
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    for name, size in sizes.items():
        options.add_free_dimension_override_by_name(name, size)
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


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
            raise Refused(
                "device",
                f"{label} would run {listed} on {other} although {provider} was asked for; export it in a precision "
                "and for a target that this device runs, or use device='cpu'.",
            )
