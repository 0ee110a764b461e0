"""NVIDIA GPUs by the driver's management library (NVML): their state, and readings of a moment."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from edgefold.gpu_states import GpuState, decode_reasons

VISIBLE = "CUDA_VISIBLE_DEVICES"
MODULE = "pynvml"
"""Of the package nvidia-ml-py."""
COMPUTE_MODES = {0: "default", 1: "exclusive thread", 2: "prohibited", 3: "exclusive process"}
POWER_INSTANT = 186
"""NVML_FI_DEV_POWER_INSTANT in mW; the plain reading is a mean over the last second on recent GPUs."""
Told = TypeVar("Told")


@dataclass(frozen=True)
class Reading:
    """One moment of a GPU; None is what it does not tell."""

    at_s: float
    """By time.perf_counter."""
    power_w: float | None
    energy_j: float | None
    """Since the driver was loaded."""
    sm_mhz: int | None
    temperature_c: int | None
    reasons: tuple[str, ...]
    """Why the clock was not higher."""


class NvmlGpu:
    """One GPU, while the library is open.

    Args:
        nvml: the module. handle: the library's, of that GPU.
    """

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle
        self._reads_instant = self._instant_power_w() is not None

    def state(self) -> GpuState:
        nvml = self._nvml
        memory = self._told(lambda: nvml.nvmlDeviceGetMemoryInfo(self._handle))
        mode = self._ask("nvmlDeviceGetComputeMode")
        limit_mw = self._ask("nvmlDeviceGetEnforcedPowerLimit")
        persistence = self._ask("nvmlDeviceGetPersistenceMode")
        processes = self._ask("nvmlDeviceGetComputeRunningProcesses")
        return GpuState(
            name=_text(self._ask("nvmlDeviceGetName")) or "unknown",
            driver=_text(self._told(nvml.nvmlSystemGetDriverVersion)),
            memory_bytes=memory and int(memory.total),
            memory_used_bytes=memory and int(memory.used),
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            max_sm_mhz=self._ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
            memory_mhz=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
            max_memory_mhz=self._ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_MEM),
            power_limit_w=None if limit_mw is None else limit_mw / 1e3,
            persistence=None if persistence is None else bool(persistence),
            compute_mode=None if mode is None else COMPUTE_MODES.get(mode, str(mode)),
            clock_reasons=self._reasons(),
            temperature_c=self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            other_processes=None if processes is None else sum(p.pid != os.getpid() for p in processes),
        )

    def read(self) -> Reading:
        energy_mj = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        power_w = self._instant_power_w() if self._reads_instant else None
        if power_w is None:
            power_mw = self._ask("nvmlDeviceGetPowerUsage")
            power_w = None if power_mw is None else power_mw / 1e3
        return Reading(
            at_s=time.perf_counter(),
            power_w=power_w,
            energy_j=None if energy_mj is None else energy_mj / 1e3,
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            reasons=self._reasons() or (),
        )

    def _instant_power_w(self) -> float | None:
        values = self._ask("nvmlDeviceGetFieldValues", [POWER_INSTANT])
        if not values or values[0].nvmlReturn:
            return None
        return float(values[0].value.uiVal) / 1e3

    def _reasons(self) -> tuple[str, ...] | None:
        """By the name that the library has for it now, or had before its release 12.2."""
        for name in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            if (bits := self._ask(name)) is not None:
                return decode_reasons(int(bits))
        return None

    def _ask(self, name: str, *arguments: Any) -> Any:
        call = getattr(self._nvml, name, None)
        return None if call is None else self._told(lambda: call(self._handle, *arguments))

    def _told(self, call: Callable[[], Told]) -> Told | None:
        """None where this GPU or this driver does not tell."""
        try:
            return call()
        except self._nvml.NVMLError:
            return None


@contextmanager
def nvidia_gpus() -> Iterator[list[NvmlGpu]]:
    """The GPUs that this process may use, in CUDA's order of them; none without nvidia-ml-py or a driver."""
    try:
        nvml: Any = import_module(MODULE)
    except ImportError:
        yield []
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield []
        return
    try:
        yield [NvmlGpu(nvml, handle) for handle in _handles(nvml)]
    finally:
        nvml.nvmlShutdown()


def read_gpu_states() -> tuple[GpuState, ...]:
    """Of every GPU that this process may use."""
    with nvidia_gpus() as gpus:
        return tuple(gpu.state() for gpu in gpus)


def _handles(nvml: Any) -> list[Any]:
    """As CUDA_VISIBLE_DEVICES says, by number or UUID; what comes after a name that is not known is not visible."""
    chosen = os.environ.get(VISIBLE)
    names = [str(n) for n in range(nvml.nvmlDeviceGetCount())] if chosen is None else chosen.split(",")
    handles = []
    for name in (part.strip() for part in names):
        try:
            by_number = name.isdigit()
            handles.append(
                nvml.nvmlDeviceGetHandleByIndex(int(name)) if by_number else nvml.nvmlDeviceGetHandleByUUID(name)
            )
        except nvml.NVMLError:
            break
    return handles


def _text(value: Any) -> str | None:
    """Older releases of the package give bytes."""
    return value.decode() if isinstance(value, bytes) else value
