"""A session on TensorRT, on doubles of TensorRT and of CUDA that compute: whoever reads too early reads garbage there.

The tests marked `tensorrt` build and run on a real GPU.
"""

import json
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import make_tensorrt
from tiny_graphs import conv_net, decoder, encoder, save_as_artifact
from typer.testing import CliRunner

from edgefold.artifacts import Artifact, load_artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError, InputError
from edgefold.exporters import build_engine
from edgefold.exporters.tensorrt import building, engines
from edgefold.nvidia_driver import Gpu, read_gpu
from edgefold.runtimes import example_inputs, open_session, tensorrt_session
from edgefold.runtimes.cudart import Cudart
from edgefold.runtimes.tensorrt_session import TensorRtSession

RELEASES = ("8.6", "10.3", "11.4", "rtx1.7")
SIZES = {"batch": (1, 1, 4), "sequence": (1, 8, 16)}


class Machine:
    """A GPU with one release of TensorRT, both doubles."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, release: str = "10.3") -> None:
        self.cuda = FakeCuda()
        self._folder, self._patch = folder, monkeypatch
        self.install(release)

    def install(self, release: str) -> None:
        trt = make_tensorrt(release, self.cuda)
        for module in (building, tensorrt_session):
            self._patch.setattr(module, "import_tensorrt", lambda names=None: trt)
        self._patch.setattr(tensorrt_session, "open_cudart", lambda: Cudart(self.cuda))
        self._patch.setattr(building, "read_gpu", lambda: Gpu("Orin", "8.7", "12.6"))

        def run(request: Any, log: Path, timeout_s: float) -> Any:
            log.write_text("")
            return building.build(request)

        self._patch.setattr(engines, "run_build", run)

    def build(self, model: Any, *profiles: Any, **facts: Any) -> Artifact:
        source = save_as_artifact(model, self._folder / "onnx", **facts)
        settings: Any = {"cache": self._folder / "cache", "overwrite": True}
        return build_engine(source, self._folder / "engine", profiles=profiles, **settings)

    def open(self, artifact: Artifact, **settings: Any) -> TensorRtSession:
        return TensorRtSession(artifact, device="cuda", threads=1, spinning=False, **settings)

    def reference(self, feeds: dict[str, Any]) -> dict[str, Any]:
        session = onnxruntime.InferenceSession(str(self._folder / "onnx" / "model.onnx"))
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))


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


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_every_release_computes_what_the_graph_says(release: str, kind: Any, machine: Machine) -> None:
    machine.install(release)
    with machine.open(machine.build(encoder(kind), SIZES)) as session:
        for rows, length in ((1, 8), (3, 5), (4, 16), (1, 1)):
            feeds = tokens(rows, length)
            assert_same(session.run(feeds), machine.reference(feeds))
        assert session.gpu_s is not None
        assert session.gpu_s > 0
        assert session.settings()["version"].endswith(".0")
        assert machine.cuda.alive() > 0


def test_a_cache_of_keys_and_values_grows_from_nothing(machine: Machine) -> None:
    built = machine.build(decoder(), {"batch": (1, 1, 2), "sequence": (1, 1, 4), "past": (0, 4, 16)})
    with machine.open(built) as session:
        feeds = {
            "input_ids": np.array([[1, 2, 3]]),
            **{n.name: np.zeros((1, 2, 0, 8), np.float32) for n in built.inputs[1:]},
        }
        for _ in range(3):
            found = session.run(feeds)
            assert_same(found, machine.reference(feeds))
            past = {f"past_key_values.0.{kind}": found[f"present.0.{kind}"] for kind in ("key", "value")}
            feeds = {"input_ids": np.array([[4]]), **past}
        assert found["present.0.key"].shape == (1, 2, 5, 8)


def test_outputs_are_arrays_of_their_own(machine: Machine) -> None:
    with machine.open(machine.build(encoder(), SIZES)) as session:
        first = session.run(tokens(2, 6))
        kept = first["logits"].copy()
        session.run(tokens(2, 6, seed=1))
        np.testing.assert_array_equal(first["logits"], kept)


def test_the_profile_that_fits_is_chosen(machine: Machine) -> None:
    small, large = {"batch": (1, 1, 1), "sequence": (1, 4, 4)}, {"batch": (2, 4, 8), "sequence": (8, 16, 32)}
    with machine.open(machine.build(encoder(), small, large)) as session:
        for rows, length in ((1, 4), (8, 32), (1, 2)):
            feeds = tokens(rows, length)
            assert_same(session.run(feeds), machine.reference(feeds))
        with pytest.raises(InputError) as refused:
            session.run(tokens(4, 4))
    assert str(refused.value) == (
        "engine was not built for input_ids (4, 4), attention_mask (4, 4); it takes input_ids from (1, 1) to (1, 4), "
        "attention_mask from (1, 1) to (1, 4); or input_ids from (2, 8) to (8, 32), attention_mask from (2, 8) to "
        "(8, 32). Build it with wider ranges."
    )


def test_a_graph_is_launched_from_the_second_run_of_a_shape_on(machine: Machine) -> None:
    with machine.open(machine.build(encoder(), SIZES), cuda_graph=True) as session:
        launches = []
        for seed, (rows, length) in enumerate([(2, 6), (2, 6), (2, 6), (1, 6), (1, 6), (4, 16), (2, 6), (2, 6)]):
            feeds = tokens(rows, length, seed)
            assert_same(session.run(feeds), machine.reference(feeds))
            launches.append(machine.cuda.launches)
            assert session.gpu_s is not None
    assert launches == [0, 1, 2, 2, 3, 3, 3, 4]
    assert session.settings()["cuda_graph"]


def test_a_graph_goes_with_the_buffers_that_it_was_captured_on(machine: Machine) -> None:
    """Memory runs out while the buffers grow: those of the shape before are gone, and so must be its graph."""
    with machine.open(machine.build(encoder(), SIZES), cuda_graph=True) as session:
        for _ in range(3):
            session.run(tokens(1, 4))
        assert machine.cuda.launches == 2
        machine.cuda.failing = {"cudaMalloc"}
        with pytest.raises(DeviceError, match="out of memory"):
            session.run(tokens(4, 16))
        machine.cuda.failing = set()
        feeds = tokens(1, 4, seed=1)
        assert_same(session.run(feeds), machine.reference(feeds))
        assert machine.cuda.launches == 2


def test_tensorrt_8_takes_int64_as_int32(machine: Machine) -> None:
    machine.install("8.6")
    with machine.open(machine.build(encoder(), SIZES)) as session:
        feeds = tokens(1, 4)
        assert_same(session.run(feeds), machine.reference(feeds))
        feeds["input_ids"][0, 0] = 2**32
        with pytest.raises(InputError, match="Input input_ids has values beyond int32, which the engine takes"):
            session.run(feeds)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda f: f.pop("attention_mask"), "The model takes input_ids, attention_mask; got input_ids."),
        (lambda f: f.update(input_ids=f["input_ids"].astype(np.int32)), "Input input_ids must be an array of int64"),
        (lambda f: f.update(input_ids=f["input_ids"][:, :2]), "The dimension sequence is 2 in input_ids and 4 in"),
    ],
)
def test_feeds_that_do_not_fit(change: Callable[[Any], Any], says: str, machine: Machine) -> None:
    with machine.open(machine.build(encoder(), SIZES)) as session:
        feeds = tokens(1, 4)
        change(feeds)
        with pytest.raises(InputError, match=says):
            session.run(feeds)


def test_an_engine_of_another_tensorrt_is_told(machine: Machine) -> None:
    built = machine.build(encoder(), SIZES)
    machine.install("11.4")
    with pytest.raises(DeviceError) as refused:
        machine.open(built)
    assert "TensorRT 11.4.0 cannot open" in str(refused.value)
    assert (
        "was built with TensorRT 10.3.0 on Orin (The engine plan file is of 10.3, not 11.4); an engine runs on the GPU "
        "and the release that it was built for"
    ) in str(refused.value)


def test_an_engine_that_is_not_the_artifact_s(machine: Machine) -> None:
    built = machine.build(encoder(), SIZES)
    other = built.model_copy(update={"outputs": (built.outputs[0].model_copy(update={"name": "scores"}),)})
    other._folder = built.folder
    with pytest.raises(InputError, match=r"has the outputs logits, its artifact.json says scores; build it again"):
        machine.open(other)


def test_memory_that_runs_out_is_told_and_a_closed_session_refuses(machine: Machine) -> None:
    session = machine.open(machine.build(encoder(), SIZES))
    machine.cuda.failing = {"cudaMalloc"}
    with pytest.raises(DeviceError, match=r"cudaMalloc failed: out of memory \(CUDA status 2\)"):
        session.run(tokens(1, 4))
    machine.cuda.failing = set()
    feeds = tokens(1, 4)
    assert_same(session.run(feeds), machine.reference(feeds))
    session.close()
    session.close()
    with pytest.raises(InputError, match="The session of engine is closed"):
        session.run(feeds)


def test_open_session_finds_it(machine: Machine) -> None:
    built = machine.build(conv_net(), {"batch": (1, 1, 2)})
    feeds = example_inputs(built.inputs, batch=2)
    with open_session(built, device="cuda", runtime="tensorrt") as session:
        assert (session.runtime, session.device) == ("tensorrt", "cuda")
        assert_same(session.run(feeds), machine.reference(feeds))
    with pytest.raises(InputError, match="There is no device 'cpu' for tensorrt; give device='cuda'"):
        open_session(built, runtime="tensorrt")
    with pytest.raises(InputError, match="holds tensorrt, which tensorrt opens"):
        open_session(built)


def test_bench_measures_an_engine(machine: Machine) -> None:
    """By the same command as an ONNX artifact, with the kernels' time beside the host's."""
    built = machine.build(conv_net(), {"batch": (1, 1, 2)})
    settings = ["--runtime", "tensorrt", "--device", "cuda", "--cuda-graph", "--seconds", "0.02"]
    done = CliRunner().invoke(app, ["bench", str(built.folder), *settings, "--energy-seconds", "0", "--json"])
    assert done.exit_code == 0, done.output
    (report,) = json.loads(done.output)["reports"]
    assert report["settings"]["cuda_graph"]
    assert machine.cuda.launches > 0
    assert 0 < report["gpu_p50_s"] < report["p50_s"]
    assert len(report["gpu_times_s"]) == len(report["times_s"])


@pytest.mark.tensorrt
@pytest.mark.skipif(
    read_gpu() is None or not any(map(find_spec, ("tensorrt", "tensorrt_bindings"))), reason="no GPU with TensorRT here"
)
@pytest.mark.parametrize("cuda_graph", [False, True])
@pytest.mark.parametrize(("kind", "quantized"), [(np.float32, False), (np.float16, False), (np.float32, True)])
def test_a_real_gpu_computes_what_onnx_runtime_computes(
    kind: Any, quantized: bool, cuda_graph: bool, tmp_path: Path
) -> None:
    source = save_as_artifact(encoder(kind, quantized), tmp_path / "onnx", "int8" if quantized else "fp32")
    build_engine(source, tmp_path / "engine", profiles=[SIZES], cache=tmp_path / "cache")
    reference = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"))
    settings: Any = {"device": "cuda", "threads": 1, "spinning": False, "cuda_graph": cuda_graph}
    with TensorRtSession(load_artifact(tmp_path / "engine"), **settings) as session:
        for seed, (rows, length) in enumerate([(1, 8), (1, 8), (1, 8), (3, 5), (4, 16)]):
            feeds = tokens(rows, length, seed)
            (wanted,) = reference.run(None, feeds)
            # TF32 and half precision keep three digits; int8 rounds elsewhere than ONNX Runtime by one step of 0.05
            np.testing.assert_allclose(session.run(feeds)["logits"], wanted, atol=0.2 if quantized else 0.02)
            assert session.gpu_s is not None
            assert session.gpu_s < 1
