"""A search measures its plans in processor time on a CPU, by the wall clock on a GPU, each with its own table."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_reports import STATE, make_report
from torch import Tensor, nn

from edgefold.budget import onnxruntime_target
from edgefold.budget.onnxruntime_target import OnnxRuntimeTarget, check_runs_there
from edgefold.errors import DeviceError, InputError
from edgefold.gpu_states import GpuState

SHAPE: dict[str, Any] = {"batch": 2, "sequence": 5}
GPU = GpuState(**{**dict.fromkeys(GpuState.model_fields), "name": "Made-up GPU", "driver": "1.2"})


class Benchmark:
    """Stands in for benchmark_artifacts: a wall clock that is slower than the processor's."""

    def __init__(self) -> None:
        self.precisions: list[str] = []

    def __call__(self, artifacts: Any, feeds: Any, **settings: Any) -> dict[str, Any]:
        self.settings, self.shape = settings, feeds["input_ids"].shape
        self.precisions = [artifact.precision for artifact in artifacts.values()]
        wall = {"teacher": 8e-3, "student": 2e-3}
        return {
            name: make_report([wall[name]] * 3).model_copy(update={"cpu_times_s": [wall[name] / 2] * 3})
            for name in artifacts
        }


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Benchmark:
    stand_in = Benchmark()
    monkeypatch.setattr(onnxruntime_target, "benchmark_artifacts", stand_in)
    return stand_in


class Words(nn.Module):
    """Each token by itself: an embedding and as many layers as asked for."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(101, 8)
        self.layers = nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.layers(self.embed(input_ids)) * attention_mask[..., None]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("device", "threads", "precision", "seconds"),
    [("cpu", 1, "fp32", 1e-3), ("cpu", 2, "fp32", 2e-3), ("cuda", 1, "fp16", 2e-3), ("ssh://me@pi", 1, "int8", 1e-3)],
)
def test_time_is_the_processors_on_one_thread_and_the_walls_on_a_gpu(
    device: str,
    threads: int,
    precision: Any,
    seconds: float,
    benchmark: Benchmark,
    tmp_path: Path,
    text_batch: Callable[..., dict[str, Tensor]],
) -> None:
    teacher, student = Words(2), Words(1)
    measure = OnnxRuntimeTarget(teacher, tmp_path, precision, **SHAPE, threads=threads, device=device)
    timing = measure(student, text_batch())
    assert (timing.seconds, timing.teacher_seconds) == (seconds, 4 * seconds)
    assert benchmark.precisions == [precision, precision]
    assert benchmark.shape == (2, 5)
    assert benchmark.settings["device"] == device
    assert benchmark.settings["io_binding"] is (device == "cuda")


def test_a_table_of_a_gpu_is_of_that_gpu(
    tmp_path: Path, make_bert: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = STATE.model_copy(update={"gpus": (GPU,), "versions": {"numpy": "2.0", "onnxruntime-gpu": "1.32.0"}})
    monkeypatch.setattr(onnxruntime_target, "read_device_state", lambda: state)
    monkeypatch.setattr(onnxruntime_target, "check_gpu", lambda: None)
    keys = {
        device: OnnxRuntimeTarget(make_bert(), tmp_path, "fp32", **SHAPE, threads=1, device=device).key
        for device in ("cpu", "cuda")
    }
    assert keys["cuda"]["device"] == "cuda Made-up GPU, driver 1.2, Made-up CPU"
    assert keys["cpu"]["device"] == "cpu Made-up CPU, avx2"
    assert keys["cpu"]["runtime"] == "onnxruntime-gpu 1.32.0"
    assert {name for name in keys["cpu"] if keys["cpu"][name] != keys["cuda"][name]} == {"device"}


def test_launches_by_graphs_are_measured_so_and_have_a_table_of_their_own(
    benchmark: Benchmark,
    tmp_path: Path,
    text_batch: Callable[..., dict[str, Tensor]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onnxruntime_target, "check_gpu", lambda: None)
    targets = [
        OnnxRuntimeTarget(Words(1), tmp_path, "fp32", **SHAPE, threads=1, device="cuda", cuda_graph=graph)
        for graph in (False, True)
    ]
    assert targets[0].key != targets[1].key
    targets[1](Words(1), text_batch())
    assert (benchmark.settings["cuda_graph"], benchmark.settings["io_binding"]) == (True, True)


def test_without_a_gpu_it_is_said_before_anything_is_exported(
    tmp_path: Path, make_bert: Callable[..., nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    measure = OnnxRuntimeTarget(make_bert(), tmp_path, "fp32", **SHAPE, threads=1, device="cuda")
    with pytest.raises(DeviceError, match="has no CUDAExecutionProvider"):
        _ = measure.key
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(("precision", "device"), [("fp16", "cpu"), ("int8", "cuda"), ("fp16", "ssh://me@board")])
def test_precisions_that_a_device_does_not_run_are_refused(precision: str, device: str) -> None:
    with pytest.raises(InputError, match=f"On {device} a search measures fp32 or .*; got precision {precision!r}"):
        check_runs_there(precision, device)


def test_a_graph_is_of_a_gpu() -> None:
    with pytest.raises(InputError, match="launched on an NVIDIA GPU alone, device='cuda'; got device='cpu'"):
        check_runs_there("fp32", "cpu", cuda_graph=True)
