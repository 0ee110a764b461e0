"""Sessions: an artifact opened on one runtime on one device; numpy arrays in, numpy arrays out."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import Artifact, Generation, TensorSpec, load_artifact
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes.remote.addresses import is_remote

Arrays = dict[str, NDArray[Any]]

SUM = " + "
"""Between the names of dimensions whose sizes add up."""
RUNTIMES = {
    "onnxruntime": ("edgefold.runtimes.onnxruntime_session", "OnnxRuntimeSession", ("onnx",)),
    "openvino": ("edgefold.runtimes.openvino_session", "OpenVinoSession", ("onnx",)),
    "tensorrt": ("edgefold.runtimes.tensorrt_session", "TensorRtSession", ("tensorrt",)),
}
"""Name -> its module, its class, and the artifact formats that it opens."""
GPU_SETTINGS = {"onnxruntime": ("provider", "io_binding", "cuda_graph", "tf32"), "tensorrt": ("cuda_graph",)}
"""Runtime -> the settings of a GPU that it takes, by the names of `open_session`."""
USUAL = "onnxruntime"
ON_DEVICES = ("onnxruntime", "openvino")
"""The runtimes in which models are opened on devices over SSH, by the agent that goes there,"""
REMOTE = ("edgefold.runtimes.remote.remote_session", "RemoteSession")
"""with this session here."""


class Session(Protocol):
    """An opened model. Use it in a `with` statement."""

    label: str
    runtime: str
    device: str
    precision: str
    model_sha256: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    generation: Generation | None
    load_s: float

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once.

        Raises:
            InputError: a name is missing or unknown, or a type or shape does not fit.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Threads, spinning, providers: all that decides about speed."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> "Session": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_session(
    artifact: Artifact | str | Path,
    *,
    device: str = "cpu",
    runtime: str | None = None,
    threads: int = 1,
    spinning: bool = False,
    provider: str | None = None,
    io_binding: bool = False,
    cuda_graph: bool = False,
    tf32: bool = False,
) -> Session:
    """Open an artifact, or its folder.

    Args:
        runtime: one of `RUNTIMES`; else the one that the artifact is for, see `usual_runtime`.
        device: "cpu" or "cuda", or ssh://user@host[:port] for the CPU of another machine. What cannot run there is
            refused; nothing falls back silently.
        threads: CPU threads of one run.
        spinning: whether idle threads wait in a busy loop; faster alone, several times slower on a shared machine.
        provider: of onnxruntime on cuda: "cuda" (the default), "tensorrt" or "tensorrt-rtx".
        io_binding: of onnxruntime on cuda: inputs and outputs stay at fixed places of the GPU's memory, one set for
            each shape, and are copied by way of pinned memory.
        cuda_graph: whether the kernels of a shape are launched as one graph; of onnxruntime with `io_binding` alone.
        tf32: whether float32 products of onnxruntime's CUDA provider may keep three digits only.

    Raises:
        InputError: an unknown runtime, a format or a setting it does not take, or a file that is missing or corrupt.
        DeviceError: the runtime or the device is not there.
    """
    if runtime not in (None, *RUNTIMES):
        raise InputError(f"There is no runtime {runtime!r}; choose one of {', '.join(RUNTIMES)}.")
    opened = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    if is_remote(device):
        runtime = runtime_on_device(opened, runtime, device)
    runtime = runtime or usual_runtime(opened, device)
    module, name, formats = RUNTIMES[runtime]
    if opened.format not in formats:
        fitting = [other for other, (_, _, kinds) in RUNTIMES.items() if opened.format in kinds]
        raise InputError(
            f"{runtime} opens {' and '.join(formats)}; {opened.folder} holds {opened.format}, which "
            f"{' or '.join(fitting) or 'nothing here'} opens."
        )
    gpu = {"provider": provider, "io_binding": io_binding, "cuda_graph": cuda_graph, "tf32": tf32}
    chosen = _check_gpu_settings(gpu, runtime, device)
    if is_remote(device):
        module, name, chosen = *REMOTE, {"runtime": runtime}
    session: Session = getattr(_import_runtime(runtime, module), name)(
        opened, device=device, threads=threads, spinning=spinning, **chosen
    )
    return session


def _check_gpu_settings(settings: Mapping[str, Any], runtime: str, device: str) -> dict[str, Any]:
    """Those that are asked for."""
    taken = () if is_remote(device) else GPU_SETTINGS.get(runtime, ())
    chosen = {name: value for name, value in settings.items() if value}
    if wrong := [name for name in chosen if name not in taken]:
        raise InputError(
            f"{runtime} on {device} takes no {wrong[0]}; "
            + (f"of a GPU's settings it takes {', '.join(taken)}." if taken else "leave it out.")
        )
    return chosen


def usual_runtime(artifact: Artifact, device: str = "cpu") -> str:
    """OpenVINO on a CPU for what was exported for it, whose int8 others run slowly; else ONNX Runtime."""
    return "openvino" if artifact.target == "openvino" and (device == "cpu" or is_remote(device)) else USUAL


def runtime_on_device(artifact: Artifact, runtime: str | None, device: str) -> str:
    """The runtime that opens the artifact on a device over SSH.

    Raises:
        InputError: none there does.
    """
    runtime = runtime or usual_runtime(artifact, device)
    if runtime not in ON_DEVICES:
        raise InputError(f"On a device it is {' or '.join(ON_DEVICES)} that runs; got the runtime {runtime!r}.")
    return runtime


def import_runtime(runtime: str) -> None:
    """Import what a session of that runtime needs, and open nothing.

    Raises:
        DeviceError: it is not installed.
    """
    _import_runtime(runtime, RUNTIMES[runtime][0])


def _import_runtime(runtime: str, module: str) -> ModuleType:
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library of the runtime's own is missing
        raise DeviceError(
            f"{runtime} cannot be imported here ({error}); install it with: pip install 'edgefold[{runtime}]'"
        ) from error


class FeedChecks:
    """`check_feeds` for one model; what fits as the last feeds did is let through in a microsecond."""

    def __init__(self, specs: tuple[TensorSpec, ...]) -> None:
        self._specs = specs
        self._passed: list[tuple[Any, ...]] = []

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """
        Raises:
            InputError: as `check_feeds`.
        """
        try:
            seen = [(name, type(value), value.dtype, value.shape) for name, value in feeds.items()]
        except AttributeError:  # no array
            seen = []
        if not seen or seen != self._passed:
            check_feeds(self._specs, feeds)
            self._passed = seen


def check_feeds(specs: tuple[TensorSpec, ...], feeds: Mapping[str, NDArray[Any]]) -> None:
    """Refuse feeds that do not fit the inputs: names, types, ranks, fixed sizes, and equal sizes under one name.

    Raises:
        InputError: what came and what is wanted.
    """
    names = [spec.name for spec in specs]
    if set(feeds) != set(names):
        raise InputError(f"The model takes {', '.join(names)}; got {', '.join(feeds) or 'nothing'}.")
    sizes: dict[str, tuple[int, str]] = {}
    for spec in specs:
        value = feeds[spec.name]
        if not isinstance(value, np.ndarray) or value.dtype.name != spec.dtype:
            came = value.dtype.name if isinstance(value, np.ndarray) else type(value).__name__
            raise InputError(f"Input {spec.name} must be an array of {spec.dtype}; got {came}.")
        if len(value.shape) != len(spec.shape) or any(
            isinstance(want, int) and want != size for want, size in zip(spec.shape, value.shape, strict=True)
        ):
            raise InputError(f"Input {spec.name} must have the shape {_shown(spec.shape)}; got {_shown(value.shape)}.")
        for want, size in zip(spec.shape, value.shape, strict=True):
            if isinstance(want, str) and SUM not in want:
                first, owner = sizes.setdefault(want, (size, spec.name))
                if first != size:
                    raise InputError(
                        f"The dimension {want} is {first} in {owner} and {size} in {spec.name}; make them equal."
                    )
    _check_sums(specs, feeds, {label: size for label, (size, _) in sizes.items()})


def _check_sums(specs: tuple[TensorSpec, ...], feeds: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]) -> None:
    """Whether "past + sequence" is what its parts are in the other inputs."""
    for spec in specs:
        for want, size in zip(spec.shape, feeds[spec.name].shape, strict=True):
            parts = want.split(SUM) if isinstance(want, str) and SUM in want else []
            if parts and all(part in sizes for part in parts) and size != sum(sizes[part] for part in parts):
                told = SUM.join(f"{part} {sizes[part]}" for part in parts)
                raise InputError(f"The dimension {want} is {size} in {spec.name}; the other inputs have {told}.")


def _shown(shape: tuple[int | str, ...]) -> str:
    return f"({', '.join(str(size) for size in shape)})"
