"""Models in OpenVINO's CPU plugin: computed in the precision that was asked for and no other.

Left to itself, OpenVINO computes a float32 model in bfloat16 on processors that have instructions for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgefold.openvino_modules import import_openvino
from edgefold.runtimes.agent.refusals import Refused

openvino = import_openvino()
DEVICES = {"cpu": "CPU"}
HINTS = {"fp32": "f32", "int8": "f32", "fp16": "f16", "weight-int8": "f32", "int4": "f32"}
"""Precision of an artifact -> that of what floats in it; integers are in the graph."""
NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""OpenVINO's long names of the precision in force -> its short ones."""


def open_openvino(path: str, label: str, *, precision: str, device: str, threads: int, spinning: bool) -> Any:
    """A compiled model on `device`.

    Raises:
        Refused: an unknown device, threads that should spin, a file that is no model, or a processor on which floats
            would be computed in another precision.
    """
    if spinning:
        raise Refused("input", "OpenVINO's threads cannot be told to spin; use spinning=False.")
    if device not in DEVICES:
        raise Refused("input", f"There is no device {device!r} for openvino; choose one of {', '.join(DEVICES)}.")
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), DEVICES[device], _settings(precision, threads))
    except RuntimeError as error:
        raise Refused("input", f"openvino cannot open {path}: {last_line(error)}") from error
    refuse_fall_back(label, compiled, HINTS[precision], DEVICES[device])
    return compiled


def infer(request: Any, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[Any]:
    """Arrays of these outputs, the caller's own."""
    contiguous = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
    found = request.infer(contiguous, share_inputs=True, share_outputs=False)
    return [found[name] for name in outputs]


def describe_openvino(compiled: Any) -> dict[str, Any]:
    """All that decides about speed, of JSON's types; "nodes" counts the operators of each precision after fusion."""
    operators = compiled.get_runtime_model().get_ordered_ops()
    return {
        "threads": int(compiled.get_property("INFERENCE_NUM_THREADS")),
        "streams": int(compiled.get_property("NUM_STREAMS")),
        "pinned": bool(compiled.get_property("ENABLE_CPU_PINNING")),
        "inference_precision": _precision(compiled),
        "devices": list(compiled.get_property("EXECUTION_DEVICES")),
        "nodes": dict(Counter(str(operator.get_rt_info()["runtimePrecision"].astype(str)) for operator in operators)),
        "version": openvino.get_version(),
    }


def last_line(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they come from; the last line says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def refuse_fall_back(label: str, compiled: Any, wanted: str, device: str) -> None:
    """A model that computes in another precision, or elsewhere, must not be measured under that name."""
    found = _precision(compiled)
    if found != wanted:
        raise Refused(
            "device",
            f"{label} would be computed in {found} by OpenVINO on this processor although {wanted} was asked for; "
            "export it in a precision that this processor has, or use runtime='onnxruntime'.",
        )
    devices = list(compiled.get_property("EXECUTION_DEVICES"))
    if devices != [device]:
        raise Refused("device", f"{label} would run on {', '.join(devices)} although {device} was asked for.")


def _settings(precision: str, threads: int) -> dict[str, Any]:
    """One stream, so that all threads work on one run; threads are not pinned to cores, which others may use."""
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }


def _precision(compiled: Any) -> str:
    """What floating-point operators really compute in."""
    name = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return NAMES.get(name, str(name))
