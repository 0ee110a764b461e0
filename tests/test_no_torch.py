"""A device needs numpy, pydantic and one runtime: everything that runs there runs where torch cannot be imported."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgefold.artifacts import Artifact

BLOCKER = """
import sys

class Blocked:
    names = {"torch", "transformers", "onnx", "onnxscript", "onnx_ir", "matplotlib", "safetensors", "accelerate"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
"""


def run_blocked(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCKER + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def run_command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_blocked("sys.argv[0] = 'edgefold'\nfrom edgefold.cli import main; main()", *arguments)


@pytest.fixture
def artifact(make_artifact: Callable[..., Artifact], tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "tiny")


def test_the_blocker_blocks() -> None:
    result = run_blocked("import torch")
    assert result.returncode == 1
    assert "torch is blocked" in result.stderr


@pytest.mark.parametrize(
    "module",
    [
        "edgefold",
        "edgefold.runtimes",
        "edgefold.exporters",
        "edgefold.cli.application",
        "edgefold.exporters.tensorrt.engines, edgefold.exporters.tensorrt.building",
    ],
)
def test_importing_needs_none_of_it(module: str) -> None:
    assert run_blocked(f"import {module}").returncode == 0


def test_bench_measures(artifact: Artifact, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    result = run_command(
        "bench", artifact.folder, "--against", artifact.folder, "--seconds", 0.01, "--out", out, "--json"
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(out.read_text())
    assert json.loads(result.stdout)["ratio"] == document["ratio"]
    assert [len(report["times_s"]) >= 64 for report in document["reports"]] == [True, True]


def test_verify_compares(artifact: Artifact) -> None:
    result = run_blocked(
        "from edgefold.runtimes import example_inputs, open_session, verify_outputs\n"
        "with open_session(sys.argv[1]) as a, open_session(sys.argv[1]) as b:\n"
        "    batches = [example_inputs(a.inputs, batch=size) for size in (1, 3)]\n"
        "    assert verify_outputs(a.run, b.run, batches, tolerance=0).passed",
        artifact.folder,
    )
    assert result.returncode == 0, result.stderr


def test_doctor_examines() -> None:
    result = run_command("doctor", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)


@pytest.mark.parametrize("command", [["inspect"], ["export", "--out"]])
def test_what_needs_torch_says_what_to_install(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}')
    name, *options = command
    result = run_command(name, tmp_path / "model", *options, *([tmp_path / "out"] if options else []))
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "pip install 'edgefold[train]'" in result.stderr


def test_importing_runtimes_loads_no_runtime() -> None:
    names = "edgefold.runtimes.sessions, edgefold.runtimes.benchmarking, edgefold.artifacts, edgefold.reports"
    assert run_blocked(f"import {names}; assert 'onnxruntime' not in sys.modules").returncode == 0
