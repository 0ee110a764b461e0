"""Whatever the builder does to its process, the caller gets an error with the log's last lines, and nothing is left."""

import os
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from tiny_graphs import one_node, product

from edgefold.errors import DeviceError, EdgefoldError, InputError
from edgefold.exporters.tensorrt.build_process import run_build
from edgefold.exporters.tensorrt.build_requests import BuildFacts, BuildRequest
from edgefold.staging import sha256_file

Run = Callable[..., BuildFacts]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Build in a process whose TensorRT is the double, which ends as it is told."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))

    def run(
        end: str, model: onnx.ModelProto | None = None, module: str = "fake_tensorrt", timeout_s: float = 60.0
    ) -> BuildFacts:
        monkeypatch.setenv("EDGEFOLD_TENSORRT", module)
        monkeypatch.setenv("FAKE_TENSORRT", "10.3")
        monkeypatch.setenv("FAKE_END", end)
        onnx.save(model or product(), tmp_path / "model.onnx")
        paths = {"model": str(tmp_path / "model.onnx"), "engine": str(tmp_path / "model.engine")}
        shapes = {"x": ((1, 8), (1, 8), (4, 8))}
        request = BuildRequest(
            **paths, model_sha256=(sha256_file(paths["model"]),), cache=str(tmp_path / "cache"), profiles=(shapes,)
        )
        return run_build(request, tmp_path / "build.log", timeout_s)

    return run


def test_facts_and_errors_come_back(run: Run, tmp_path: Path) -> None:
    assert run("well").tensorrt == "TensorRT 10.3.0"
    assert (tmp_path / "model.engine").is_file()
    with pytest.raises(InputError, match=r"node the_Det \(Det\): no importer for Det"):
        run("well", one_node("Det"))


@pytest.mark.parametrize(
    ("end", "says"),
    [
        (
            "SIGSEGV",
            r"The build of model.onnx crashed: the builder was ended by SIGSEGV\. Its log ends: .*about to end",
        ),
        ("SIGKILL", r"ended by SIGKILL, as happens when memory runs out\. Its log ends: .*about to end"),
    ],
)
def test_a_crash_or_a_kill_is_explained(end: str, says: str, run: Run, tmp_path: Path) -> None:
    with pytest.raises(EdgefoldError, match=says):
        run(end)
    assert not (tmp_path / "model.engine").exists()


def test_a_hang_is_ended(run: Run) -> None:
    started = time.monotonic()
    with pytest.raises(EdgefoldError, match=r"The build of model.onnx was ended after 3 s; give it longer"):
        run("hang", timeout_s=3)
    assert time.monotonic() - started < 30
    with pytest.raises(ChildProcessError):  # no child of ours is left to wait for
        os.waitpid(-1, os.WNOHANG)


def test_no_tensorrt_is_said_with_what_to_install(run: Run) -> None:
    with pytest.raises(DeviceError, match=r"No TensorRT can be imported here \(no_such: No module named 'no_such'\)"):
        run("well", module="no_such")
