"""Models in ONNX Runtime: opened on the provider that was asked for and no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnxruntime

from edgefold.runtimes.agent.refusals import Refused

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
HEAVY = {"Attention", "Conv", "ConvInteger", "Gemm", "MatMul", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
"""Operators that decide the time of a run; shapes and indices are computed on the CPU by design."""


def open_onnx(path: str, label: str, *, device: str, threads: int, spinning: bool) -> Any:
    """An InferenceSession on `device`.

    Raises:
        Refused: an unknown device, a file that is no model, or a provider that is missing or would not do the work.
    """
    if device not in PROVIDERS:
        raise Refused("input", f"There is no device {device!r} for onnxruntime; choose one of {', '.join(PROVIDERS)}.")
    provider = PROVIDERS[device]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise Refused(
            "device",
            f"This onnxruntime has no {provider} (it has {', '.join(available)}); install onnxruntime-gpu for CUDA, "
            "or use device='cpu'.",
        )
    try:
        session = onnxruntime.InferenceSession(path, _options(threads, spinning), providers=[provider])
    except Exception as error:  # onnxruntime's own classes share no base
        raise Refused("input", f"onnxruntime cannot open {path}: {first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise Refused(
            "device",
            f"onnxruntime fell back from {provider} to {session.get_providers()[0]}; check the driver and CUDA "
            "libraries, or use device='cpu'.",
        )
    _refuse_partial_fall_back(label, _placement(session), provider)
    return session


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


def _options(threads: int, spinning: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised; said once is enough
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
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
