"""On a real NVIDIA card: what its runtimes compute, how they are timed, what it takes, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch  # brings CUDA's libraries, where they are not beside onnxruntime
from onnx import TensorProto, helper
from tiny_graphs import conv_net, decoder, encoder, model_of, product, save_as_artifact, value
from typer.testing import CliRunner

from edgefold.artifacts import Artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError
from edgefold.nvidia_driver import read_gpu
from edgefold.reporting.benchmark_page import render_benchmarks
from edgefold.reporting.files import load_named_reports
from edgefold.runtimes import benchmark, example_inputs, open_session, open_torch_baseline, read_device_state
from edgefold.runtimes.agent.onnx_models import GPU_PROVIDERS
from edgefold.runtimes.gpu_power import measure_gpu_power

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(read_gpu() is None, reason="no NVIDIA GPU here"),
]
CLOSE: Any = {"rtol": 1e-4, "atol": 1e-4}  # float32 sums in another order
FEW: Any = {"warmup_s": 0.01, "min_duration_s": 0.05, "min_runs": 20}


def tokens(rows: int, length: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    mask = np.ones((rows, length), np.int64)
    mask[0, length // 2 :] = 0
    return {"input_ids": random.integers(0, 30, (rows, length)), "attention_mask": mask}


def large_product(folder: Path, width: int = 4096, layers: int = 8) -> Artifact:
    """y = x W ... W, x: (batch, width): work enough for the power to rise."""
    weight = np.random.default_rng(0).normal(0, width**-0.5, (width, width)).astype(np.float32)
    names = ["x", *(f"h{layer}" for layer in range(1, layers)), "y"]
    nodes = [helper.make_node("MatMul", [names[layer], "w"], [names[layer + 1]]) for layer in range(layers)]
    ends = [value(name, ("batch", width)) for name in ("x", "y")]
    return save_as_artifact(model_of(nodes, ends[:1], ends[1:], {"w": weight}), folder)


def assert_close(found: dict[str, Any], wanted: dict[str, Any], **tolerance: Any) -> None:
    assert list(found) == list(wanted)
    for name, expected in wanted.items():
        assert found[name].dtype == expected.dtype
        np.testing.assert_allclose(found[name], expected, err_msg=name, **tolerance)


@pytest.mark.parametrize("make", [encoder, decoder, conv_net])
def test_cuda_computes_what_the_cpu_computes(make: Any, tmp_path: Path) -> None:
    artifact = save_as_artifact(make(), tmp_path / "a")
    feeds = example_inputs(artifact.inputs, batch=3, sequence=5, past=4, vocab_size=30)
    with open_session(artifact) as cpu, open_session(artifact, device="cuda") as cuda:
        assert_close(cuda.run(feeds), cpu.run(feeds), **CLOSE)
        settings = cuda.settings()
    assert settings["providers"][0] == "CUDAExecutionProvider"
    assert settings["nodes"].get("CUDAExecutionProvider", 0) > 0
    assert settings["provider_options"]["use_tf32"] == "0"


def test_half_precision(tmp_path: Path) -> None:
    artifact = save_as_artifact(encoder(np.float16), tmp_path / "a", "fp16")
    with open_session(artifact) as cpu, open_session(artifact, device="cuda", io_binding=True) as cuda:
        for _ in range(2):
            assert_close(cuda.run(tokens(2, 6)), cpu.run(tokens(2, 6)), atol=0.02)  # eleven bits


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_bound_runs_are_plain_ones_though_shapes_change(cuda_graph: bool, tmp_path: Path) -> None:
    artifact = save_as_artifact(encoder(), tmp_path / "a")
    bound: Any = {"io_binding": True, "cuda_graph": cuda_graph}
    with open_session(artifact, device="cuda") as plain, open_session(artifact, device="cuda", **bound) as session:
        for seed, (rows, length) in enumerate([(2, 6), (2, 6), (2, 6), (1, 4), (1, 4), (4, 16), (2, 6), (1, 4)]):
            feeds = tokens(rows, length, seed)
            assert_close(session.run(feeds), plain.run(feeds), **CLOSE)
        assert 0 < session.gpu_s < 1  # type: ignore[attr-defined]


def test_a_cache_grows_while_bound(tmp_path: Path) -> None:
    artifact = save_as_artifact(decoder(), tmp_path / "a")
    feeds: Any = {"input_ids": np.array([[1, 2, 3]])}
    feeds |= {spec.name: np.zeros((1, 2, 0, 8), np.float32) for spec in artifact.inputs[1:]}
    with open_session(artifact) as cpu, open_session(artifact, device="cuda", io_binding=True) as session:
        for _ in range(3):
            wanted = cpu.run(feeds)
            for _ in range(2):
                assert_close(session.run(feeds), wanted, **CLOSE)
            past = {f"past_key_values.0.{kind}": wanted[f"present.0.{kind}"] for kind in ("key", "value")}
            feeds = {"input_ids": np.array([[4]]), **past}


def test_tf32_is_off_unless_asked_for(tmp_path: Path) -> None:
    artifact = large_product(tmp_path / "a", 1024, 2)
    feeds = {"x": np.random.default_rng(1).normal(size=(64, 1024)).astype(np.float32)}
    with open_session(artifact) as cpu:
        wanted = cpu.run(feeds)["y"]
    errors = {}
    for tf32 in (False, True):
        with open_session(artifact, device="cuda", tf32=tf32) as session:
            errors[tf32] = float(np.abs(session.run(feeds)["y"] - wanted).max())
            assert session.settings()["provider_options"]["use_tf32"] == str(int(tf32))
    assert errors[False] < 1e-4
    assert errors[True] > 2 * errors[False]


@pytest.mark.parametrize("io_binding", [False, True])
def test_kernels_take_less_than_the_whole_run(io_binding: bool, tmp_path: Path) -> None:
    artifact = large_product(tmp_path / "a", 1024, 2)
    feeds = {"x": np.ones((64, 1024), np.float32)}
    with open_session(artifact, device="cuda", io_binding=io_binding) as session:
        report = benchmark(session, feeds, **FEW)
    assert report.settings["io_binding"] == ("device" if io_binding else "host")
    if io_binding:
        assert 0 < report.gpu_p50_s < report.p50_s  # type: ignore[operator]
    else:
        assert report.gpu_p50_s is None


@pytest.mark.parametrize(("dtype", "compiled", "tolerance"), [("fp32", False, 1e-4), ("fp16", False, 0.02)])
def test_a_torch_baseline_computes_what_onnx_runtime_computes(
    dtype: Any, compiled: bool, tolerance: float, tmp_path: Path
) -> None:
    check_baseline(dtype, compiled, tolerance, tmp_path)


@pytest.mark.slow
def test_a_compiled_torch_baseline(tmp_path: Path) -> None:
    check_baseline("fp16", True, 0.02, tmp_path)


def check_baseline(dtype: Any, compiled: bool, tolerance: float, folder: Path) -> None:
    artifact = save_as_artifact(product(), folder / "a")
    weight = onnx.numpy_helper.to_array(onnx.load(artifact.model_path).graph.initializer[0])

    class Product(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.Parameter(torch.from_numpy(weight.copy()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ self.w

    feeds = {"x": np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)}
    ends = (artifact.inputs, artifact.outputs)
    with (
        open_session(artifact, device="cuda") as reference,
        open_torch_baseline(Product(), *ends, device="cuda", dtype=dtype, compiled=compiled) as session,
    ):
        for _ in range(2):
            assert_close(session.run(feeds), reference.run(feeds), atol=tolerance, rtol=tolerance)
        assert session.gpu_s is not None
        assert 0 < session.gpu_s < 1


def test_products_left_on_the_cpu_are_refused(tmp_path: Path) -> None:
    weight = np.ones((4, 3, 3, 3), np.uint8)
    nodes = [helper.make_node("ConvInteger", ["x", "w"], ["y"], name="conv")]
    ends = ([value("x", ("batch", 3, 8, 8), TensorProto.UINT8)], [value("y", ("batch", 4, 6, 6), TensorProto.INT32)])
    artifact = save_as_artifact(model_of(nodes, *ends, {"w": weight}), tmp_path / "a", "int8")
    with pytest.raises(DeviceError, match="would run 1 ConvInteger on CPUExecutionProvider although CUDA"):
        open_session(artifact, device="cuda")


@pytest.mark.parametrize("provider", ["tensorrt", "tensorrt-rtx"])
def test_a_provider_computes_or_is_refused_and_none_falls_back(provider: str, tmp_path: Path) -> None:
    artifact = save_as_artifact(encoder(), tmp_path / "a")
    feeds, name = tokens(2, 6), GPU_PROVIDERS[provider]
    with open_session(artifact) as cpu:
        wanted = cpu.run(feeds)
    if refusal := why_refused(artifact, provider):
        print(f"\n{refusal}")
        assert name in refusal
        return
    with open_session(artifact, device="cuda", provider=provider) as session:
        assert session.settings()["providers"][0] == name
        assert_close(session.run(feeds), wanted, atol=0.02)  # TensorRT takes TF32


def why_refused(artifact: Artifact, provider: str) -> str:
    """Empty where it is not."""
    try:
        open_session(artifact, device="cuda", provider=provider).close()
    except DeviceError as refused:
        return str(refused)
    return ""


def test_the_card_tells_its_state() -> None:
    pytest.importorskip("pynvml")
    states = read_device_state().gpus
    assert states
    assert states[0].name
    assert states[0].memory_bytes
    assert states[0].max_sm_mhz
    assert states[0].driver


def test_a_busy_window_takes_more_energy_than_an_idle_one(tmp_path: Path) -> None:
    pytest.importorskip("pynvml")
    artifact = large_product(tmp_path / "a")
    feeds = {"x": np.random.default_rng(0).normal(size=(1024, 4096)).astype(np.float32)}
    with open_session(artifact, device="cuda", io_binding=True) as session:
        session.run(feeds)
        power = measure_gpu_power({"a": lambda: session.run(feeds)}, 3.0)["a"]
    print(f"\n{power}")
    assert power.mean_load_w > power.mean_idle_w + 10
    assert power.net_j > 0


def test_bench_measures_a_gpu(tmp_path: Path) -> None:
    artifact = large_product(tmp_path / "a", 256, 2)
    out = tmp_path / "report.json"
    settings = ["--device", "cuda", "--io-binding", "--cuda-graph", "--seconds", "0.2", "--energy-seconds", "1"]
    done = CliRunner().invoke(app, ["bench", str(artifact.folder), *settings, "--out", str(out)])
    assert done.exit_code == 0, done.output
    (report,) = json.loads(out.read_text())["reports"]
    print(done.output)
    assert report["gpu_p50_s"] > 0
    assert (report["settings"]["io_binding"], report["settings"]["cuda_graph"]) == ("device", True)
    page = render_benchmarks(load_named_reports([out])[0], (), tmp_path / "page.html").read_text()
    assert "GPU p50 ms" in page


def test_doctor_shows_it() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = {finding["what"]: finding for finding in json.loads(done.stdout)["findings"]}
    for name in ("NVIDIA GPU", "GPU 0", "CUDAExecutionProvider", "TensorrtExecutionProvider"):
        print(found.get(name))
    assert found["CUDAExecutionProvider"]["works"]
    assert found["NVIDIA GPU"]["found"] != "none visible"


def test_onnx_runtime_is_the_build_for_gpus() -> None:
    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
