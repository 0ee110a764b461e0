"""A double of pynvml: one GPU whose counter, power, clock and reasons follow a script of moments."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    pass


class FakeNvml:
    """What of pynvml edgefold calls; `missing` are calls that this GPU does not support.

    Args:
        watts: of the n-th reading. names: of the GPUs.
    """

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    NVMLError = NVMLError

    def __init__(self, watts: Callable[[], float] = lambda: 100.0, names: tuple[Any, ...] = ("NVIDIA H100",)) -> None:
        self.watts, self.names = watts, names
        self.missing: set[str] = set()
        self.open = 0
        self.energy_mj: Callable[[], int] = lambda: 0
        self.reasons = 0x1
        self.sm_mhz: Callable[[], int] = lambda: 1980

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "missing"):

            def refuse(*arguments: Any) -> Any:
                raise NVMLError("Not Supported")

            return refuse
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if index >= len(self.names):
            raise NVMLError("Invalid Argument")
        return index

    def nvmlDeviceGetHandleByUUID(self, name: str) -> int:
        if not name.startswith("GPU-"):
            raise NVMLError("Not Found")
        return int(name[4:])

    def nvmlDeviceGetName(self, handle: int) -> Any:
        return self.names[handle]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80 * 10**9, used=10**9)

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        return {1: self.sm_mhz(), 2: 2619}[kind]

    def nvmlDeviceGetMaxClockInfo(self, handle: int, kind: int) -> int:
        return {1: 1980, 2: 2619}[kind]

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 700_000

    def nvmlDeviceGetPersistenceMode(self, handle: int) -> int:
        return 1

    def nvmlDeviceGetComputeMode(self, handle: int) -> int:
        return 0

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=-1)]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return self.reasons

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 34

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return round(self.watts() * 1e3)

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[int]) -> list[Any]:
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=round(self.watts() * 1e3) + 1000))]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self.energy_mj()
