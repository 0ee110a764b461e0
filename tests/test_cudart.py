"""The CUDA runtime is found, each of its errors is one of ours, and a capture that fails leaves nothing."""

from pathlib import Path
from typing import Any

import pytest
from fake_cuda import FakeCuda

from edgefold.errors import DeviceError
from edgefold.runtimes.cudart import VARIABLE, Cudart, find_cudart, open_cudart


def test_no_library_is_said_with_what_to_install() -> None:
    def missing(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(DeviceError, match=r"There is no libcudart here \(libcudart.* cannot open.*cuda-cudart"):
        find_cudart(missing)


def test_the_environment_names_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/opt/libcudart.so")
    assert find_cudart(lambda name: name) == ("/opt/libcudart.so", "/opt/libcudart.so")


def test_those_of_packages_come_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = tmp_path / "nvidia" / "cu13" / "lib" / "libcudart.so.13"
    library.parent.mkdir(parents=True)
    library.touch()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("edgefold.runtimes.cudart.site.getsitepackages", lambda: [str(tmp_path)])

    def load(name: str) -> str:
        if "/" not in name:
            raise OSError(name)
        return name

    assert find_cudart(load)[0] == str(library)


@pytest.mark.parametrize(
    ("devices", "index", "says"),
    [(0, 0, r"cudaGetDeviceCount failed: no CUDA-capable device is detected"), (1, 2, "no GPU 2 here; CUDA shows 1")],
)
def test_no_gpu(devices: int, index: int, says: str) -> None:
    with pytest.raises(DeviceError, match=says):
        open_cudart(index, lambda name: FakeCuda(devices))
    assert open_cudart(load=lambda name: FakeCuda()).make_stream()


def test_a_failed_capture_tells_its_cause_and_leaves_nothing() -> None:
    library = FakeCuda()
    cuda = Cudart(library)
    stream = cuda.make_stream()

    def fail() -> None:
        raise DeviceError("the cause")

    with pytest.raises(DeviceError, match="the cause"):
        cuda.capture(stream, fail)
    assert library.alive() == 1
    cuda.end_stream(stream)
    assert library.alive() == 0
