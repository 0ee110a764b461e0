"""What doctor says of GPUs and of the providers that compute on them, from doubles."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from fake_nvml import FakeNvml

from edgefold.cli import gpu_findings
from edgefold.cli.findings import Finding
from edgefold.cli.gpu_findings import examine_gpus
from edgefold.nvidia_driver import Gpu
from edgefold.runtimes import provider_probe
from edgefold.runtimes.provider_probe import PRODUCT, probe_providers

REAL = onnxruntime.InferenceSession


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake: Any = FakeNvml()
    fake.__spec__ = ModuleSpec("pynvml", None)
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_findings, "read_gpu", lambda: Gpu("H100", "9.0", "13.0"))
    return fake


def examine(monkeypatch: pytest.MonkeyPatch, *probed: tuple[str, str]) -> list[Finding]:
    monkeypatch.setattr(provider_probe, "probe_providers", lambda: iter(probed))
    return examine_gpus()


def test_a_card_in_one_line(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    (card,) = examine(monkeypatch)
    assert (card.what, card.works) == ("GPU 0", True)
    assert card.found == (
        "NVIDIA H100, driver 580.95.05, 1.0 of 80.0 GB in use, SM 1980 of 1980 MHz, memory 2619 of 2619 MHz, limit 700 "
        "W, 34 C, 1 other processes"
    )
    assert "CUDA_VISIBLE_DEVICES" in card.advice


def test_a_card_that_is_held_back(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.reasons = 0x44
    (card,) = examine(monkeypatch)
    assert not card.works
    assert "held back by heat (hardware), power cap" in card.found
    assert "cooling" in card.advice


def test_providers_that_compute_and_one_that_does_not(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    _, *found = examine(
        monkeypatch, ("CUDAExecutionProvider", ""), ("TensorrtExecutionProvider", "libnvinfer.so.10 is missing")
    )
    assert found[0] == Finding("CUDAExecutionProvider", "computes", True)
    assert found[1].found == "cannot be used: libnvinfer.so.10 is missing"
    assert found[1].works
    assert "tensorrt<11" in found[1].advice
    _, cuda = examine(monkeypatch, ("CUDAExecutionProvider", "no libcudnn"))
    assert not cuda.works
    assert "onnxruntime-gpu[cuda,cudnn]" in cuda.advice


def test_without_nvml_it_is_advised(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_findings, "MODULE", "no_such_pynvml")
    (found,) = examine(monkeypatch)
    assert (found.what, found.works) == ("NVML", True)
    assert "edgefold[nvml]" in found.advice


def test_without_a_gpu_there_is_nothing_to_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_findings, "read_gpu", lambda: None)
    assert examine_gpus() == []


def test_the_probe_is_a_product(tmp_path: Path) -> None:
    (tmp_path / "p.onnx").write_bytes(PRODUCT)
    (found,) = REAL(str(tmp_path / "p.onnx")).run(None, {"x": provider_probe.np.eye(2, dtype="float32") * 3})
    assert found.tolist() == [[9, 0], [0, 9]]


def test_a_provider_is_tried_by_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnCuda:
        def __init__(self, path: str, options: Any, providers: Any, enable_fallback: int) -> None:
            if providers[0][0] != "CUDAExecutionProvider":
                raise RuntimeError("libnvinfer.so.10: cannot open\nshared object file")
            self._real = REAL(path)

        def get_providers(self) -> list[str]:
            return ["CUDAExecutionProvider"]

        def run(self, names: Any, feeds: Any) -> Any:
            return self._real.run(names, feeds)

    names = ["CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    monkeypatch.setattr(onnxruntime, "InferenceSession", OnCuda)
    monkeypatch.setattr(provider_probe, "import_tensorrt", lambda names: None)
    found = dict(probe_providers())
    assert found["CUDAExecutionProvider"] == ""
    assert "libnvinfer.so.10: cannot open" in found["TensorrtExecutionProvider"]
    assert len(found) == 2
