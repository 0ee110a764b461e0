"""One path through every release: what a build asks TensorRT for, with doubles that have what each release has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import make_tensorrt
from tiny_graphs import encoder, one_node, product

from edgefold.errors import DeviceError, EdgefoldError, InputError
from edgefold.exporters.tensorrt import building
from edgefold.exporters.tensorrt.build_requests import BuildFacts, BuildRequest, read_request
from edgefold.nvidia_driver import Gpu

RELEASES = ("8.6", "10.3", "11.4", "rtx1.7")
SHAPES = dict.fromkeys(("input_ids", "attention_mask"), ((1, 1), (1, 8), (4, 16)))
Build = Callable[..., BuildFacts]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Build:
    """Build a model with a release of TensorRT; the config of the last build is `build.trt.last_config`."""

    def run(release: str, model: onnx.ModelProto, gpu: bool = True, end: str = "", **settings: Any) -> BuildFacts:
        trt = make_tensorrt(release, FakeCuda() if gpu else None, end)
        run.trt = trt  # type: ignore[attr-defined]
        monkeypatch.setattr(building, "import_tensorrt", lambda: trt)
        monkeypatch.setattr(building, "read_gpu", lambda: Gpu("Orin", "8.7", "12.6") if gpu else None)
        onnx.save(model, tmp_path / "model.onnx")
        paths = {"model": str(tmp_path / "model.onnx"), "engine": str(tmp_path / "model.engine")}
        shapes = settings.pop("profiles", (SHAPES,))
        request = BuildRequest(**paths, model_sha256=("a",), cache=str(tmp_path / "cache"), profiles=shapes, **settings)
        request.write(tmp_path / "request.json")
        return building.build(read_request(tmp_path / "request.json"))

    return run


@pytest.mark.parametrize("release", RELEASES)
def test_every_release_builds_by_the_same_path(release: str, build: Build, tmp_path: Path) -> None:
    facts = build(release, encoder())
    name = "TensorRT-RTX 1.7.0" if release == "rtx1.7" else f"TensorRT {release}.0"
    assert (facts.tensorrt, facts.gpu, facts.compute_capability) == (name, "Orin", "8.7")
    assert facts.precisions == ("fp32",)
    assert facts.layers is not None
    assert facts.layers["total"] == len(encoder().graph.node)
    assert (tmp_path / "model.engine").read_bytes().startswith(b"PLAN")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("kind", "quantized", "found", "flags"),
    [
        (np.float32, False, ("fp32",), set()),
        (np.float16, False, ("fp16",), {"FP16"}),
        (np.float32, True, ("fp32", "int8"), {"INT8"}),
        (np.float16, True, ("fp16", "int8"), {"FP16", "INT8"}),
    ],
)
def test_precision_is_the_graph_s(
    kind: Any, quantized: bool, found: tuple[str, ...], flags: set[str], release: str, build: Build
) -> None:
    """Flags are TensorRT 8's alone: later networks are strongly typed."""
    facts = build(release, encoder(kind, quantized))
    assert facts.precisions == found
    assert build.trt.last_config.set_flags == (flags if release == "8.6" else set())  # type: ignore[attr-defined]
    if quantized:
        assert facts.layers is not None
        assert facts.layers["precisions"]["int8"] == 9  # seven of weights, two of attention


def test_settings_reach_the_builder(build: Build) -> None:
    build("10.3", encoder(), sparse=True, workspace_bytes=2**20, optimization_level=5)
    config = build.trt.last_config  # type: ignore[attr-defined]
    assert config.set_flags == {"SPARSE_WEIGHTS"}
    assert config.limits == {"WORKSPACE": 2**20}
    assert (config.builder_optimization_level, config.profiling_verbosity) == (5, "DETAILED")
    assert [profile.shapes for profile in config.profiles] == [
        {name: [list(shape) for shape in shapes] for name, shapes in SHAPES.items()}
    ]


def test_rtx_compiles_for_other_devices_without_a_gpu(build: Build) -> None:
    facts = build("rtx1.7", encoder(), gpu=False, compute_capabilities=("8.6", "12.0"))
    assert build.trt.last_config.capabilities == {0: "SM86", 1: "SM120"}  # type: ignore[attr-defined]
    assert (facts.gpu, facts.layers) == (None, None)
    with pytest.raises(InputError, match=r"does not compile for compute capability 8.7; it does for 7.5, 8.6, 12.0"):
        build("rtx1.7", encoder(), gpu=False, compute_capabilities=("8.7",))
    with pytest.raises(InputError, match="builds for the GPU it runs on alone"):
        build("10.3", encoder(), compute_capabilities=("8.6",))


@pytest.mark.parametrize(
    ("release", "says"),
    [
        ("10.3", "TensorRT 10.3.0 does not take model.onnx: node the_Det (Det): no importer for Det."),
        ("8.6", "TensorRT 8.6.0 does not take model.onnx: node number 0: no importer for Det."),
    ],
)
def test_the_parser_s_errors_name_the_node(release: str, says: str, build: Build) -> None:
    with pytest.raises(InputError) as refused:
        build(release, one_node("Det"), profiles=({"x": ((1, 8), (1, 8), (4, 8))},))
    assert str(refused.value) == says


def test_what_does_not_fit_is_refused(build: Build) -> None:
    with pytest.raises(InputError, match="The graph takes x; its artifact says input_ids, attention_mask"):
        build("10.3", product())
    with pytest.raises(InputError, match="do not fit together"):
        build("10.3", product(), profiles=({"x": ((4, 8), (1, 8), (2, 8))},))
    with pytest.raises(EdgefoldError, match="took the graph and built no engine"):
        build("10.3", encoder(), profiles=())
    with pytest.raises(InputError, match=r"TensorRT 8.5.0 has no optimization levels"):
        build("8.5", product(), profiles=({"x": ((1, 8), (1, 8), (2, 8))},), optimization_level=3)


def test_tensorrt_needs_a_gpu_to_build(build: Build) -> None:
    with pytest.raises(DeviceError, match=r"TensorRT 10.3.0 cannot start a builder here, and no GPU is visible"):
        build("10.3", encoder(), gpu=False)


def test_an_engine_comes_from_the_cache_where_nothing_that_decides_has_changed(build: Build, tmp_path: Path) -> None:
    first = build("10.3", encoder())
    engine = (tmp_path / "model.engine").read_bytes()
    (tmp_path / "model.engine").unlink()
    again = build("10.3", encoder())
    assert (first.from_cache, again.from_cache) == (False, True)
    assert (tmp_path / "model.engine").read_bytes() == engine
    assert again.layers == first.layers
    for other in ({"sparse": True}, {"optimization_level": 1}, {"profiles": ({n: SHAPES[n] for n in SHAPES},) * 2}):
        assert not build("10.3", encoder(), **other).from_cache
    assert not build("11.4", encoder()).from_cache
    assert build("10.3", encoder()).from_cache


def test_a_damaged_engine_is_built_anew(build: Build, tmp_path: Path) -> None:
    build("10.3", encoder())
    (kept,) = (tmp_path / "cache").glob("*/model.engine")
    kept.write_bytes(kept.read_bytes()[:-1])
    assert not build("10.3", encoder()).from_cache
    assert build("10.3", encoder()).from_cache


def test_a_cache_that_cannot_be_written_costs_nothing_else(
    build: Build, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    for _ in range(2):
        assert not build("10.3", encoder()).from_cache
        assert (tmp_path / "model.engine").read_bytes().startswith(b"PLAN")
    assert f"nothing is kept in {tmp_path / 'cache'}: " in caplog.text


def test_timings_are_kept_for_each_tensorrt_and_device(build: Build, tmp_path: Path) -> None:
    build("10.3", encoder())
    (kept,) = (tmp_path / "cache").glob("*.timings")
    assert kept.read_bytes() == b"timed 10.3"
    kept.write_bytes(b"seen 10.3")
    build("10.3", encoder(), sparse=True)
    assert build.trt.last_config.timings.kept == b"seen 10.3"  # type: ignore[attr-defined]
    kept.write_bytes(b"of another device")
    build("10.3", encoder(), optimization_level=1)
    assert build.trt.last_config.timings.kept == b""  # type: ignore[attr-defined]
    build("rtx1.7", encoder())
    assert len(list((tmp_path / "cache").glob("*.timings"))) == 1


def test_flags_of_networks() -> None:
    flags = {release: building.creation_flags(make_tensorrt(release)) for release in RELEASES}
    assert flags == {"8.6": 1, "10.3": 3, "11.4": 1, "rtx1.7": 1}


def test_a_module_s_answer_is_written_for_the_other_side(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(request: BuildRequest) -> BuildFacts:
        raise DeviceError("no such thing")

    monkeypatch.setattr(building, "build", refuse)
    BuildRequest("m", (), "e", "c", ()).write(tmp_path / "request.json")
    building.main(str(tmp_path / "request.json"), str(tmp_path / "answer.json"))
    assert '"DeviceError"' in (tmp_path / "answer.json").read_text()
