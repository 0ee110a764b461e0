"""A baseline in torch itself: any module as a session, eager or compiled; no other file of runtimes imports torch."""

import contextlib
import copy
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefold.artifacts import Generation, TensorSpec
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes.sessions import Arrays, FeedChecks

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEVICES = ("cpu", "cuda")
TorchPrecision = Literal["fp32", "bf16", "fp16"]


def open_torch_baseline(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    label: str = "torch",
    device: str = "cpu",
    dtype: TorchPrecision = "fp32",
    compiled: bool = False,
    mode: str = "default",
    tf32: bool = False,
    threads: int = 1,
) -> "TorchBaseline":
    """A session over a copy of `module`: numpy arrays in and out, as all sessions have them.

    Args:
        inputs: by the names of forward's keywords.
        outputs: by the names of what it returns, or in that order where it returns a tensor or a tuple.
        dtype: of weights and float inputs; outputs have the type of their spec.
        compiled: whether by torch.compile; each shape is compiled by itself, in its first run.
        mode: torch.compile's.
        tf32: whether float32 products on a GPU may keep three digits only.
        threads: of the CPU.

    Raises:
        InputError: an unknown device or type.
        DeviceError: no GPU that torch can use.
    """
    if device not in DEVICES or dtype not in DTYPES:
        raise InputError(
            f"A torch baseline is on {' or '.join(DEVICES)} in {', '.join(DTYPES)}; got device={device!r} and "
            f"dtype={dtype!r}."
        )
    if threads < 1:
        raise InputError(f"threads={threads} must be at least 1.")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError(
            f"torch {torch.__version__} sees no GPU here; install a build for CUDA and check the driver, or use "
            "device='cpu'."
        )
    return TorchBaseline(module, inputs, outputs, label, device, dtype, mode if compiled else None, tf32, threads)


class TorchBaseline:
    """A `Session` over a module; see `open_torch_baseline`."""

    runtime = "torch"
    model_sha256: str | None = None
    generation: Generation | None = None

    def __init__(
        self,
        module: nn.Module,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        label: str,
        device: str,
        dtype: TorchPrecision,
        mode: str | None,
        tf32: bool,
        threads: int,
    ) -> None:
        self.label, self.device, self.precision = label, device, str(dtype)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.gpu_s: float | None = None
        """Seconds of the last run's kernels, between two CUDA events."""
        self._check = FeedChecks(self.inputs)
        self._dtype, self._tf32, self._threads = DTYPES[dtype], tf32, threads
        started = time.perf_counter()
        placed = copy.deepcopy(module).eval().to(device, self._dtype)
        self._module: Any = placed if mode is None else torch.compile(placed, mode=mode, dynamic=False)
        events: Any = torch.cuda.Event
        self._events = [events(enable_timing=True) for _ in range(2)] if device == "cuda" else []
        self._wait()
        self.load_s = time.perf_counter() - started
        self._settings = {
            "threads": threads,
            "spinning": None,
            "compiled": mode is not None,
            "mode": mode,
            "tf32": tf32,
            "io_binding": "host",
            "version": torch.__version__,
        }

    @torch.inference_mode()
    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
        """Run once; see `Session.run`."""
        if self._module is None:
            raise InputError(f"The session of {self.label} is closed; open it again.")
        self._check(feeds)
        with self._set():
            given = {spec.name: self._place(feeds[spec.name]) for spec in self.inputs}
            self._record(0)
            found = self._compute(given)
            self._record(1)
            arrays = {
                spec.name: tensor.to(_torch_dtype(spec.dtype)).cpu().numpy()
                for spec, tensor in zip(self.outputs, self._pick(found), strict=True)
            }
            self._wait()
        if self._events:
            self.gpu_s = self._events[0].elapsed_time(self._events[1]) / 1e3
        return arrays

    def settings(self) -> dict[str, Any]:
        return self._settings

    def close(self) -> None:
        self._module = None

    def __enter__(self) -> "TorchBaseline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _compute(self, given: Mapping[str, Tensor]) -> Any:
        """
        Raises:
            DeviceError: torch.compile failed.
            InputError: the module failed.
        """
        try:
            return self._module(**given)
        except Exception as error:  # modules raise what they like, and torch.compile has a tree of its own
            told = " ".join(str(error).split("\n")[:2]).strip() or type(error).__name__
            shapes = {name: tuple(tensor.shape) for name, tensor in given.items()}
            if _is_of_the_compiler(error):
                raise DeviceError(
                    f"{self.label} cannot be compiled by torch.compile here ({told}); it takes a C++ compiler, and "
                    "Triton for a GPU. Measure it without."
                ) from error
            raise InputError(f"{self.label} does not run on {shapes}: {told}") from error

    def _place(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.to(self.device, self._dtype if tensor.is_floating_point() else None)

    def _pick(self, found: Any) -> list[Tensor]:
        """The outputs in the order of their specs."""
        if isinstance(found, Mapping):
            if missing := [spec.name for spec in self.outputs if spec.name not in found]:
                raise InputError(f"{self.label} returns {', '.join(found)}; its specs want {missing[0]} as well.")
            return [found[spec.name] for spec in self.outputs]
        values = [found] if isinstance(found, Tensor) else list(found)
        if len(values) < len(self.outputs):
            raise InputError(f"{self.label} returns {len(values)} values; its specs name {len(self.outputs)}.")
        return values[: len(self.outputs)]

    def _record(self, number: int) -> None:
        if self._events:
            self._events[number].record()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    @contextlib.contextmanager
    def _set(self) -> Iterator[None]:
        """Threads and TF32 are of the whole process: set for one run, and put back."""
        before = torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        _set_process(self._threads, self._tf32, self._tf32)
        try:
            yield
        finally:
            _set_process(*before)


def _is_of_the_compiler(error: Exception) -> bool:
    """What raises it is imported with it, as torch.compile alone has use for it and takes seconds."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


def _set_process(threads: int, products: bool, convolutions: bool) -> None:
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def _torch_dtype(name: str) -> torch.dtype:
    """numpy has no bfloat16, so that outputs are of a type that their spec can name."""
    return torch.from_numpy(np.empty(0, name)).dtype
