"""What the NVIDIA driver tells about the GPU: through libcuda by ctypes, so that no CUDA package is needed."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LIBRARY = "libcuda.so.1"
MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR (CUDA driver API)."""


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    compute_capability: str
    """As in "8.7"."""
    driver: str
    """The CUDA version that the driver supports, as in "12.6"."""


def read_gpu(index: int = 0, load: Callable[[str], Any] = ctypes.CDLL) -> Gpu | None:
    """The GPU of that number; None where there is no driver or no such GPU."""
    try:
        driver = load(LIBRARY)
    except OSError:
        return None
    device, count, version = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or index >= count.value:
        return None
    name = ctypes.create_string_buffer(256)
    failed = driver.cuDeviceGet(ctypes.byref(device), index) or driver.cuDeviceGetName(name, len(name), device)
    if failed or driver.cuDriverGetVersion(ctypes.byref(version)):
        return None
    capability = ".".join(str(_attribute(driver, number, device)) for number in (MAJOR, MINOR))
    return Gpu(name.value.decode(), capability, f"{version.value // 1000}.{version.value % 1000 // 10}")


def _attribute(driver: Any, number: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value
