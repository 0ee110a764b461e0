"""`edgefold export --format tensorrt`: an engine from an artifact, and what is refused before anything is built."""

import json
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import FakeCuda
from fake_tensorrt import make_tensorrt
from tiny_graphs import encoder, one_node, save_as_artifact
from typer.testing import CliRunner, Result

from edgefold.artifacts import load_artifact
from edgefold.cli import export_job
from edgefold.cli.answers import Answer
from edgefold.cli.application import app
from edgefold.cli.ranges import read_ranges
from edgefold.errors import InputError
from edgefold.exporters.tensorrt import building, engines
from edgefold.nvidia_driver import Gpu


@pytest.fixture(autouse=True)
def _builds_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The double, on a GPU, in this process."""
    trt = make_tensorrt("10.3", FakeCuda())
    monkeypatch.setenv("EDGEFOLD_TENSORRT", "fake_tensorrt")
    monkeypatch.setenv("EDGEFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "import_tensorrt", lambda: trt)
    monkeypatch.setattr(building, "read_gpu", lambda: Gpu("Orin", "8.7", "12.6"))

    def run(request: Any, log: Path, timeout_s: float) -> Any:
        log.write_text("(Sparsity) Found 3 layer(s)\n(Sparsity) Chose 2 layer(s)")
        return building.build(request)

    monkeypatch.setattr(engines, "run_build", run)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_an_artifact_becomes_an_engine(tmp_path: Path) -> None:
    save_as_artifact(encoder(quantized=True), tmp_path / "onnx", "int8")
    given = (
        "--format",
        "tensorrt",
        "--out",
        tmp_path / "engine",
        "--sparse",
        "--profile",
        "batch=1:2:4,sequence=1:8:16",
    )
    result = invoke(tmp_path / "onnx", *given)
    assert result.exit_code == 0, result.stderr
    shown = " ".join(result.stdout.split())
    for text in ("TensorRT 10.3.0", "Orin", "9 int8", "2 of 3 layers on sparse kernels", "fp32, int8"):
        assert text in shown
    facts = load_artifact(tmp_path / "engine").lineage["engine"]["model"]
    assert facts["profiles"][0]["input_ids"] == [[1, 1], [2, 8], [4, 16]]
    again = json.loads(invoke(tmp_path / "onnx", *given, "--overwrite", "--json").stdout)
    assert again["engine"]["model"]["from_cache"]


def test_a_student_is_exported_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def export(folder: Path, out: Path, **settings: Any) -> Answer:
        save_as_artifact(encoder(), out)
        return Answer({}, ())

    monkeypatch.setattr(export_job, "export_checkpoint", export)
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    result = invoke(tmp_path / "student", "--format", "tensorrt", "--out", tmp_path / "engine")
    assert result.exit_code == 0, result.stderr
    assert load_artifact(tmp_path / "engine").format == "tensorrt"


def test_a_refused_node_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    save_as_artifact(one_node("Det"), tmp_path / "onnx")
    result = invoke(tmp_path / "onnx", "--format", "tensorrt", "--out", tmp_path / "engine")
    assert result.exit_code == 2
    assert "node the_Det (Det): no importer for Det" in " ".join(result.stderr.split())
    assert not (tmp_path / "engine").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("x.onnx", "--format", "tensorrt", "--out", "x"), 2, "x.onnx is a bare graph; give the folder of an artifact"),
        (("x", "--format", "tensorrt"), 2, "give --out DIR, the folder for the engine"),
        (("x", "--format", "tensorrt", "--lint", "tensorrt-10", "--out", "x"), 2, "Give one."),
        (("x", "--sparse", "--out", "x"), 2, "are of engines; give --format tensorrt too"),
        (("x", "--profile", "batch", "--out", "x"), 2, "--profile 'batch' cannot be read at 'batch'"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], status: int, says: str) -> None:
    result = invoke(*arguments)
    assert (result.exit_code, says in " ".join(result.stderr.split())) == (status, True), result.stderr


def test_no_tensorrt_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEFOLD_TENSORRT", "no_such_tensorrt")
    result = invoke("x", "--format", "tensorrt", "--out", "y")
    assert result.exit_code == 4
    assert "There is no TensorRT here (looked for no_such_tensorrt)" in " ".join(result.stderr.split())


def test_ranges_as_they_are_typed() -> None:
    assert read_ranges(["batch=1:2:3, sequence=4:5:6", "batch=7:8:9"]) == [
        {"batch": (1, 2, 3), "sequence": (4, 5, 6)},
        {"batch": (7, 8, 9)},
    ]
    with pytest.raises(InputError, match="cannot be read at 'batch=1:x:3'"):
        read_ranges(["batch=1:x:3"])
