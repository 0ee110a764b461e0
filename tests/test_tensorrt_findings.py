"""doctor tells which TensorRT is there and what it can do with and without a GPU."""

import json
from typing import Any

import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import make_tensorrt
from typer.testing import CliRunner

from edgefold.cli import tensorrt_findings
from edgefold.cli.application import app
from edgefold.cli.findings import Finding
from edgefold.errors import DeviceError
from edgefold.nvidia_driver import Gpu

ORIN = Gpu("Orin", "8.7", "12.6")


def examine(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, release: str | None, cudart: bool = True
) -> list[Finding]:
    def missing(*names: Any) -> Any:
        raise DeviceError("nowhere to be found")

    trt = make_tensorrt(release, FakeCuda()) if release else None
    monkeypatch.setattr(tensorrt_findings, "read_gpu", lambda: gpu)
    monkeypatch.setattr(tensorrt_findings, "import_tensorrt", (lambda names: trt) if trt else missing)
    monkeypatch.setattr(tensorrt_findings, "find_cudart", (lambda: ("libcudart.so.12", 0)) if cudart else missing)
    return tensorrt_findings.examine_nvidia()


def test_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert examine(monkeypatch, ORIN, "10.3") == [
        Finding("NVIDIA GPU", "Orin, compute capability 8.7, CUDA 12.6", True),
        Finding("TensorRT", "TensorRT 10.3.0 (fake_tensorrt): builds and runs engines", True),
        Finding("libcudart", "libcudart.so.12", True),
    ]
    found = {finding.what: finding for finding in examine(monkeypatch, ORIN, None, cudart=False)}
    assert not found["TensorRT"].works
    assert "python3-libnvinfer" in found["TensorRT"].advice
    assert (found["libcudart"].works, found["libcudart"].advice) == (False, "nowhere to be found")


@pytest.mark.parametrize(
    ("release", "says"),
    [
        ("rtx1.7", "TensorRT-RTX 1.7.0 (fake_tensorrt_rtx): compiles for RTX GPUs, runs nothing"),
        ("10.3", "TensorRT 10.3.0 (fake_tensorrt): needs a GPU"),
        (None, "not installed"),
    ],
)
def test_without_one_all_of_it_is_optional(monkeypatch: pytest.MonkeyPatch, release: str | None, says: str) -> None:
    gpu, found = examine(monkeypatch, None, release)
    assert (gpu.found, found.found) == ("none visible", says)
    assert gpu.works
    assert found.works


def test_doctor_shows_it() -> None:
    findings = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)["findings"]
    assert {"NVIDIA GPU", "TensorRT"} <= {finding["what"] for finding in findings}
