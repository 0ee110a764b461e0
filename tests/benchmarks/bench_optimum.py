"""Exported students open in optimum-onnx as they are: as ORTModelFor…, and as a pipeline; both answer as our sessions.

optimum-onnx wants an older transformers than edgefold does, so it gets an environment of its own below the cache, made
once from its pins (about a gigabyte). What it cannot open stands in the table with its reason.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from peer_environments import TORCH, own_environment
from pipeline_models import MODELS
from rich.console import Console
from typer.testing import CliRunner

from edgefold.artifacts import Artifact, Precision, load_artifact
from edgefold.cli.application import app
from edgefold.cli.tables import make_table
from edgefold.exporters import write_transformers_js

PINS = (TORCH, "optimum-onnx[onnxruntime]==0.1.0", "transformers==4.57.6", "pillow")
SCRIPT = Path(__file__).with_name("optimum_opening.py")
ERROR = 1e-5
"""Of an output or a score, both from ONNX Runtime, of two versions."""


@dataclass(frozen=True)
class Case:
    task: str
    precision: Precision = "fp32"
    layout: str = "optimum"

    @property
    def name(self) -> str:
        return f"{self.task}-{self.precision}-{self.layout}"


CASES = [
    *(Case(task) for task in MODELS),
    Case("text-classification", "int8"),
    *(Case("text-generation", precision) for precision in ("fp16", "int8", "int4")),
    Case("text-classification", "int8", "transformers.js"),
    Case("text-generation", "int8", "transformers.js"),
    Case("text2text-generation", "int8", "transformers.js"),
]


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of optimum's environment."""
    return own_environment("optimum-onnx-0.1.0", PINS)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Case -> what was exported for it."""
    root = tmp_path_factory.mktemp("optimum")
    for task, model in MODELS.items():
        (root / task).mkdir()
        model.save(root / task / "student")
    return {case.name: export(case, root / case.task / "student", root / case.task / case.name) for case in CASES}


def export(case: Case, student: Path, out: Path) -> Artifact:
    """As a user does; below fp32 without the gates of quality."""
    if case.precision == "fp32":
        result = CliRunner().invoke(app, ["export", str(student), "--out", str(out)])
        assert result.exit_code == 0, result.stderr
        return load_artifact(out)
    artifact = export_lower(case.task, student, out, case.precision)
    return write_transformers_js([artifact], out, overwrite=True) if case.layout != "optimum" else artifact


@pytest.fixture(scope="module")
def theirs(python: Path, artifacts: dict[str, Artifact]) -> dict[str, dict[str, Any]]:
    """Case -> what optimum said."""
    given = []
    for case in CASES:
        artifact = artifacts[case.name]
        inputs = encoder_inputs(artifact, read_inputs(case.task, artifact.folder))
        given.append(
            {
                "task": case.task,
                "folder": str(artifact.folder),
                "inputs": {name: value.tolist() for name, value in inputs.items()},
                "samples": read_samples(case.task, artifact.folder),
                "count": TOKENS,
            }
        )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = [str(python), str(SCRIPT)]
    result = subprocess.run(run, input=json.dumps(given), capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.strip().splitlines()[-1])
    return {case.name: each for case, each in zip(CASES, found, strict=True)}


@pytest.fixture(scope="module")
def table() -> Any:
    rows: list[tuple[str, ...]] = []
    yield rows
    columns = ("task", "precision", "layout", "of the model", "of the pipeline")
    print()
    Console(width=140).print(
        make_table("In optimum-onnx 0.1.0 (transformers 4.57.6), against our session", columns, rows)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_optimum_answers_as_our_session(
    case: Case, artifacts: dict[str, Artifact], theirs: dict[str, dict[str, Any]], table: list[tuple[str, ...]]
) -> None:
    artifact, found = artifacts[case.name], theirs[case.name]
    if "error" in found:
        table.append((case.task, case.precision, case.layout, "not opened", found["error"].splitlines()[0][:60]))
        pytest.fail(found["error"])
    if "tokens" in found:
        told = compare_tokens(case.task, artifact, found, starts=int(case.task == "text2text-generation"))
    else:
        told = compare_outputs(case.task, artifact, found, ERROR)
    table.append((case.task, case.precision, case.layout, *told))
