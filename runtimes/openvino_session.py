"""A session on OpenVINO's CPU plugin, in the precision that the artifact says and no other.

Left to itself, OpenVINO computes a float32 model in bfloat16 on processors that have instructions for it.
"""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Artifact, TensorSpec
from edgefold.errors import DeviceError, InputError
from edgefold.openvino_modules import import_openvino
from edgefold.runtimes.local_sessions import LocalSession
from edgefold.runtimes.sessions import Arrays

openvino = import_openvino()
DEVICES = {"cpu": "CPU"}
HINTS = {"fp32": "f32", "int8": "f32", "fp16": "f16", "weight-int8": "f32", "int4": "f32"}
"""Precision of an artifact -> that of what floats in it; integers are in the graph."""
NAMES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
"""OpenVINO's long names of the precision in force -> its short ones."""


class OpenVinoSession(LocalSession):
    """See `open_session`."""

    runtime = "openvino"

    def __init__(self, artifact: Artifact, *, device: str, threads: int, spinning: bool) -> None:
        if threads < 1:
            raise InputError(f"threads={threads} must be at least 1.")
        if spinning:
            raise InputError("OpenVINO's threads cannot be told to spin; use spinning=False.")
        if device not in DEVICES:
            raise InputError(f"There is no device {device!r} for openvino; choose one of {', '.join(DEVICES)}.")
        super().__init__(artifact, device)
        started = time.perf_counter()
        self._compiled: Any = _compile(artifact, DEVICES[device], threads)
        self._request: Any = self._compiled.create_infer_request()
        self.load_s = time.perf_counter() - started
        try:
            _refuse_fall_back(self.label, self._compiled, HINTS[artifact.precision], DEVICES[device])
            _check_specs(self.label, artifact.inputs, self._compiled.inputs, "input")
            _check_specs(self.label, artifact.outputs, self._compiled.outputs, "output")
        except BaseException:
            self.close()
            raise
        self._settings = _describe(self._compiled)

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._request is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        self._check(feeds)
        contiguous = {name: np.ascontiguousarray(value) for name, value in feeds.items()}
        try:
            found = self._request.infer(contiguous, share_inputs=True, share_outputs=False)
        except RuntimeError as error:
            shapes = {name: value.shape for name, value in feeds.items()}
            raise InputError(f"{self.label} does not run on {shapes}: {_last_line(error)}") from error
        return {spec.name: found[spec.name] for spec in self.outputs}

    def close(self) -> None:
        self._request = self._compiled = None


def _compile(artifact: Artifact, device: str, threads: int) -> Any:
    """One stream, so that all threads work on one run; threads are not pinned to cores, which others may use."""
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[artifact.precision],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    try:
        core = openvino.Core()
        return core.compile_model(core.read_model(str(artifact.model_path)), device, settings)
    except RuntimeError as error:
        raise InputError(f"openvino cannot open {artifact.model_path}: {_last_line(error)}") from error


def _precision(compiled: Any) -> str:
    """What floating-point operators really compute in."""
    name = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return NAMES.get(name, str(name))


def _refuse_fall_back(label: str, compiled: Any, wanted: str, device: str) -> None:
    """A session that computes in another precision, or elsewhere, must not be measured under that name."""
    found = _precision(compiled)
    if found != wanted:
        raise DeviceError(
            f"{label} would be computed in {found} by OpenVINO on this processor although {wanted} was asked for; "
            "export it in a precision that this processor has, or use runtime='onnxruntime'."
        )
    devices = list(compiled.get_property("EXECUTION_DEVICES"))
    if devices != [device]:
        raise DeviceError(f"{label} would run on {', '.join(devices)} although {device} was asked for.")


def _check_specs(label: str, specs: tuple[TensorSpec, ...], ports: Any, kind: str) -> None:
    """The graph's own names and types against those of artifact.json."""
    types = {name: port.element_type.to_dtype().name for port in ports for name in port.names}
    for spec in specs:
        if types.get(spec.name) != spec.dtype:
            raise InputError(
                f"artifact.json says that {label} has the {kind} {spec.name} of {spec.dtype}; OpenVINO finds "
                f"{types.get(spec.name, f'only {sorted(types)}')}. Export the student again."
            )


def _describe(compiled: Any) -> dict[str, Any]:
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


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with where in its sources they come from; the last line says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
