"""GPUs by NVML, on a double: what is told is told in our units, what is not is None, and the library is closed."""

import sys

import pytest
from fake_nvml import FakeNvml, NVMLError

from edgefold.gpu_states import decode_reasons
from edgefold.runtimes import read_device_state
from edgefold.runtimes.nvidia import nvidia_gpus, read_gpu_states

CALLS = [name for name in dir(FakeNvml) if name.startswith("nvmlDeviceGet")]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml(names=("NVIDIA H100", b"NVIDIA A2"))
    monkeypatch.setitem(sys.modules, "pynvml", fake)  # type: ignore[arg-type]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_a_state_in_our_units(nvml: FakeNvml) -> None:
    first, second = read_gpu_states()
    assert (first.name, second.name, first.driver) == ("NVIDIA H100", "NVIDIA A2", "580.95.05")
    assert (first.memory_bytes, first.memory_used_bytes) == (80 * 10**9, 10**9)
    assert (first.sm_mhz, first.max_sm_mhz, first.memory_mhz, first.max_memory_mhz) == (1980, 1980, 2619, 2619)
    assert (first.power_limit_w, first.persistence, first.compute_mode) == (700.0, True, "default")
    assert (first.clock_reasons, first.temperature_c, first.other_processes) == (("idle",), 34, 1)
    assert nvml.open == 0
    assert read_device_state().gpus == (first, second)


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("1", ["NVIDIA A2"]),
        ("1, 0", ["NVIDIA A2", "NVIDIA H100"]),
        ("GPU-1", ["NVIDIA A2"]),
        ("0,7,1", ["NVIDIA H100"]),  # CUDA stops at the first that it does not know
        ("-1", []),
        ("", []),
    ],
)
def test_only_what_cuda_shows(visible: str, names: list[str], nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [state.name for state in read_gpu_states()] == names


def test_what_is_not_told_is_none(nvml: FakeNvml) -> None:
    nvml.missing = {name for name in CALLS if "Handle" not in name and "Count" not in name}
    first, _ = read_gpu_states()
    told = first.model_dump(exclude={"name", "driver"})
    assert first.name == "unknown"
    assert set(told.values()) == {None}
    with nvidia_gpus() as gpus:
        reading = gpus[0].read()
    assert (reading.power_w, reading.energy_j, reading.sm_mhz, reading.reasons) == (None, None, None, ())


def test_the_instant_s_power_comes_before_a_mean(nvml: FakeNvml) -> None:
    with nvidia_gpus() as gpus:
        assert gpus[0].read().power_w == 101.0
    nvml.missing = {"nvmlDeviceGetFieldValues"}
    with nvidia_gpus() as gpus:
        assert gpus[0].read().power_w == 100.0


def test_without_the_package_or_a_driver_there_are_none(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.missing = {"nvmlInit"}
    assert read_gpu_states() == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_gpu_states() == ()
    assert read_device_state().gpus == ()


def test_the_library_is_closed_whatever_happens(nvml: FakeNvml) -> None:
    with pytest.raises(NVMLError), nvidia_gpus():
        raise NVMLError("lost")
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("bits", "reasons"),
    [(0, ()), (0x1, ("idle",)), (0x44, ("power cap", "heat (hardware)")), (0x8000, ("reason 0x8000",))],
)
def test_reasons_are_decoded(bits: int, reasons: tuple[str, ...]) -> None:
    assert decode_reasons(bits) == reasons
