"""The GPU's name, compute capability and driver come from libcuda, and their absence is no error."""

from typing import Any

import pytest

from edgefold.nvidia_driver import MAJOR, Gpu, read_gpu


class Driver:
    """A double of libcuda with one GPU, some calls of which fail."""

    def __init__(self, failing: str = "", devices: int = 1) -> None:
        self.failing, self.devices = failing, devices

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: 100 if name == self.failing else getattr(type(self), f"do_{name}")(self, *arguments)

    def do_cuInit(self, flags: int) -> int:
        return 0

    def do_cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.devices
        return 0

    def do_cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 0

    def do_cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = b"Orin"
        return 0

    def do_cuDeviceGetAttribute(self, value: Any, number: int, device: Any) -> int:
        value._obj.value = 8 if number == MAJOR else 7
        return 0

    def do_cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0


def test_what_the_driver_tells() -> None:
    assert read_gpu(load=lambda name: Driver()) == Gpu("Orin", "8.7", "12.6")


@pytest.mark.parametrize(
    "failing", ["cuInit", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName", "cuDriverGetVersion"]
)
def test_a_driver_that_fails_has_no_gpu(failing: str) -> None:
    assert read_gpu(load=lambda name: Driver(failing)) is None


def test_no_driver_and_no_such_gpu() -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    assert read_gpu(load=missing) is None
    assert read_gpu(1, load=lambda name: Driver()) is None
    assert read_gpu(load=lambda name: Driver(devices=0)) is None
