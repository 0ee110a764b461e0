"""IO binding and the providers of a GPU, on doubles that compute; test_gpu.py says the same of a real card."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fake_binding import FakeGpuSession, pretend_gpu
from fake_cuda import FakeCuda
from fake_nvml import FakeNvml
from tiny_graphs import conv_net, encoder, save_as_artifact
from typer.testing import CliRunner

from edgefold.artifacts import Artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError, InputError
from edgefold.reporting.benchmark_page import render_benchmarks
from edgefold.reporting.files import load_reports
from edgefold.runtimes import benchmark, io_binding, onnxruntime_session, open_session
from edgefold.runtimes.cudart import Cudart

PROVIDERS = ("TensorrtExecutionProvider", "CUDAExecutionProvider")
REAL = onnxruntime.InferenceSession


class Machine:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.cuda = FakeCuda()
        self.opened: list[FakeGpuSession] = pretend_gpu(monkeypatch, self.cuda, *PROVIDERS)
        monkeypatch.setattr(onnxruntime_session, "open_cudart", lambda: Cudart(self.cuda))
        self.artifact: Artifact = save_as_artifact(encoder(), folder / "a")
        self.reference = REAL(str(self.artifact.model_path))

    def open(self, **settings: Any) -> Any:
        return open_session(self.artifact, device="cuda", **settings)

    def check(self, session: Any, rows: int, length: int, seed: int = 0) -> None:
        feeds = tokens(rows, length, seed)
        found = session.run(feeds)
        (wanted,) = self.reference.run(None, feeds)
        np.testing.assert_array_equal(found["logits"], wanted)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(monkeypatch, tmp_path)
    yield machine
    assert machine.cuda.alive() == 0, "the session kept memory or handles of the GPU"


def tokens(rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    mask = np.ones((rows, length), np.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": random.integers(0, 30, (rows, length)), "attention_mask": mask}


def test_plain_runs_copy_on_the_host(machine: Machine, capfd: pytest.CaptureFixture[str]) -> None:
    with machine.open() as session:
        machine.check(session, 2, 6)
        settings = session.settings()
        assert session.gpu_s is None
    assert (settings["provider"], settings["io_binding"], settings["cuda_graph"]) == ("cuda", "host", False)
    assert settings["provider_options"] == {"device_id": "0", "use_tf32": "0"}
    assert machine.opened[0].providers == [("CUDAExecutionProvider", {"device_id": "0", "use_tf32": "0"})]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_bound_runs_are_plain_ones(machine: Machine, cuda_graph: bool) -> None:
    with machine.open(io_binding=True, cuda_graph=cuda_graph) as session:
        for seed, (rows, length) in enumerate([(2, 6), (2, 6), (2, 6), (1, 4), (1, 4), (4, 16), (2, 6), (1, 4)]):
            machine.check(session, rows, length, seed)
        assert session.gpu_s > 0
        assert session.settings()["io_binding"] == "device"
        assert "user_compute_stream" not in session.settings()["provider_options"]
    assert [opened.replays for opened in machine.opened] == ([0, 2, 1, 0] if cuda_graph else [0])
    assert [opened.graph is not None for opened in machine.opened] == (
        [False, True, True, False] if cuda_graph else [False]
    )


def test_the_oldest_shape_goes_and_its_graph_is_never_replayed(machine: Machine, monkeypatch: Any) -> None:
    monkeypatch.setattr(io_binding, "KEPT", 2)
    with machine.open(io_binding=True, cuda_graph=True) as session:
        for length in (4, 5, 6, 4, 4, 4):
            machine.check(session, 1, length)
            machine.check(session, 1, length, seed=1)
        assert len(session._binding._bound) == 2


def test_inputs_that_the_cpu_reads_are_bound_there(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeGpuSession, "on_host", ("attention_mask",))
    with machine.open(io_binding=True) as session:
        for seed in range(3):
            machine.check(session, 2, 6, seed)
    with (
        machine.open(io_binding=True, cuda_graph=True) as session,
        pytest.raises(DeviceError, match="A CUDA graph cannot hold what reads attention_mask on the CPU"),
    ):
        session.run(tokens(2, 6))


def test_outputs_are_arrays_of_their_own(machine: Machine) -> None:
    with machine.open(io_binding=True) as session:
        session.run(tokens(2, 6))
        first = session.run(tokens(2, 6))["logits"]
        kept = first.copy()
        session.run(tokens(2, 6, seed=1))
        np.testing.assert_array_equal(first, kept)


def test_memory_that_runs_out_leaves_a_session_that_runs(machine: Machine) -> None:
    with machine.open(io_binding=True) as session:
        machine.cuda.failing = {"cudaMallocHost"}
        with pytest.raises(DeviceError, match="cudaMallocHost failed: out of memory"):
            session.run(tokens(2, 6))
        machine.cuda.failing = set()
        machine.check(session, 2, 6)
        machine.check(session, 2, 6, seed=1)


def test_kernel_times_stand_beside_host_times(machine: Machine) -> None:
    procedure: Any = {"warmup_s": 0.001, "min_duration_s": 0.001, "min_runs": 5}
    with machine.open(io_binding=True) as session:
        report = benchmark(session, tokens(2, 6), **procedure)
    assert len(report.gpu_times_s) == len(report.times_s)
    assert 0 < report.gpu_p50_s < report.p50_s
    assert "ms, the kernels alone" in str(report)
    with machine.open() as session:
        assert benchmark(session, tokens(2, 6), **procedure).gpu_times_s == ()


def test_tensorrt_has_cuda_behind_it(machine: Machine) -> None:
    with machine.open(provider="tensorrt", io_binding=True, cuda_graph=True) as session:
        machine.check(session, 2, 6)
        machine.check(session, 2, 6)
    (first, second) = machine.opened[1].providers
    assert first[0] == "TensorrtExecutionProvider"
    assert "trt_cuda_graph_enable" not in machine.opened[0].options
    assert first[1]["trt_cuda_graph_enable"] == "1"
    assert second == ("CUDAExecutionProvider", {key: first[1][key] for key in ("device_id", "user_compute_stream")})


def test_a_session_on_another_stream_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"CUDAExecutionProvider": {"user_compute_stream": "0"}}
    monkeypatch.setattr(FakeGpuSession, "get_provider_options", lambda self: told)
    with pytest.raises(DeviceError, match="does not compute on the stream that it was given; leave io_binding out"):
        machine.open(io_binding=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"provider": "tensorrt-rtx"},
            "has no NvTensorRTRTXExecutionProvider .* onnxruntime for TensorRT-RTX",
        ),
        (
            {"provider": "rocm"},
            "provider='rocm' on cuda is not known; on cuda choose one of cuda, tensorrt",
        ),
        ({"provider": "cuda", "device": "cpu"}, "provider='cuda' on cpu is not known"),
        ({"io_binding": True, "device": "cpu"}, "io_binding is for device='cuda'; leave it out on the CPU"),
        ({"cuda_graph": True}, "so it takes io_binding as well; ask for both"),
        ({"tf32": True, "provider": "tensorrt"}, "tf32 is an option of provider='cuda'; got provider='tensorrt'"),
        ({"io_binding": True, "runtime": "openvino"}, "openvino on cuda takes no io_binding; leave it out"),
        ({"io_binding": True, "device": "ssh://a@b"}, "onnxruntime on ssh://a@b takes no io_binding; leave it out"),
    ],
)
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], says: str, machine: Machine) -> None:
    given: Any = {"device": "cuda", **settings}
    with pytest.raises((InputError, DeviceError), match=says):
        open_session(machine.artifact, **given)


def test_a_gpu_that_onnxruntime_cannot_use_is_the_device_s_fault(machine: Machine, monkeypatch: Any) -> None:
    def fail(*arguments: Any, **settings: Any) -> Any:
        raise RuntimeError("CUDA failure 35: CUDA driver version is insufficient\nwith more lines")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    for settings in ({}, {"io_binding": True}):
        with pytest.raises(
            DeviceError,
            match=r"cannot open .* on CUDAExecutionProvider, for which pip install .*: CUDA failure 35: .*cient$",
        ):
            machine.open(**settings)


def test_tensorrt_is_allowed_what_the_graph_has(machine: Machine, tmp_path: Path) -> None:
    machine.artifact = save_as_artifact(encoder(np.float16), tmp_path / "half", "fp16")
    with machine.open(provider="tensorrt") as session:
        options = session.settings()["provider_options"]
    assert options == {"device_id": "0", "trt_fp16_enable": "1"}


def test_bench_tells_variant_kernels_and_energy(machine: Machine, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    out = tmp_path / "report.json"
    settings = ["--device", "cuda", "--io-binding", "--cuda-graph", "--seconds", "0.02", "--energy-seconds", "0.2"]
    folder = str(save_as_artifact(conv_net(), tmp_path / "conv").folder)
    done = CliRunner().invoke(app, ["bench", folder, *settings, "--out", str(out)])
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert "Energy of" in told
    assert "THROTTLED" not in told
    assert "IO binding" in told
    (report,) = load_reports(out)
    assert (report.settings["io_binding"], report.settings["cuda_graph"]) == ("device", True)
    assert report.gpu_p50_s is not None
    assert report.power is not None
    assert report.power.load_w == pytest.approx((101.0,) * len(report.power.load_w))
    assert report.before.gpus[0].name == "NVIDIA H100"
    page = render_benchmarks([report], (), tmp_path / "page.html").read_text()
    assert "GPU p50 ms" in page
    assert "NVIDIA H100" in page
    plain = CliRunner().invoke(app, ["bench", folder, "--device", "cpu", "--io-binding"])
    assert plain.exit_code == 2
    assert "io_binding is for device='cuda'" in " ".join(plain.output.split())
