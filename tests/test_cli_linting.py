"""`edgefold export --lint`: complaints about a graph that is there or was just exported, and their exit status."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tiny_graphs import encoder, one_node
from typer.testing import CliRunner, Result

from edgefold.artifacts import Artifact, write_artifact
from edgefold.cli import export_job
from edgefold.cli.answers import Answer
from edgefold.cli.application import app
from edgefold.errors import GateError


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_a_file_is_checked_for_any_version(tmp_path: Path) -> None:
    onnx.save(encoder(), tmp_path / "model.onnx")
    result = invoke(tmp_path / "model.onnx", "--lint", "tensorrt-8.6", "--json")
    (answer,) = json.loads(result.stdout)["lint"]
    assert result.exit_code == GateError.exit_code
    assert answer["refused"] == 1
    assert [c["operator"] for c in answer["complaints"] if c["verdict"] == "refused"] == ["Gelu"]
    result = invoke(tmp_path / "model.onnx", "--lint", "tensorrt-10.7")
    assert result.exit_code == 0
    assert "model.onnx for tensorrt-10.7: no complaint about" in result.stdout


def test_an_artifact_is_checked(make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    make_artifact(tmp_path / "one")
    result = invoke(tmp_path / "one", "--lint", "tensorrt-rtx")
    assert (result.exit_code, "no complaint about 3 nodes" in result.stdout) == (0, True), result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("missing.onnx", "--lint", "tensorrt-8.6"), "missing.onnx does not exist; give an artifact's folder"),
        (("missing.onnx", "--lint", "trt"), "There is no TensorRT 'trt' to check for"),
        (("missing.onnx", "--lint", "tensorrt-8.6", "--out", "x"), "writes nothing; leave --out away"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], says: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert says in " ".join(result.stderr.split())


def test_a_student_needs_somewhere_to_go(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    result = invoke(tmp_path)
    assert (result.exit_code, "give --out DIR" in result.stderr) == (2, True)


@pytest.mark.parametrize(("operator", "status"), [("Det", 3), ("Erf", 0)])
def test_what_was_exported_is_checked_too(
    operator: str,
    status: int,
    make_artifact: Callable[..., Artifact],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def export(folder: Path, out: Path, **settings: Any) -> Answer:
        artifact = make_artifact(out)
        onnx.save(one_node(operator), artifact.model_path)
        write_artifact(out, **facts, inputs=artifact.inputs, outputs=artifact.outputs)
        return Answer({"artifact": str(out)}, ("exported",))

    facts: Any = {"format": "onnx", "precision": "fp32", "target": None, "model_file": "model.onnx"}
    monkeypatch.setattr(export_job, "export_checkpoint", export)
    (tmp_path / "config.json").write_text("{}")
    result = invoke(tmp_path, "--out", tmp_path / "out", "--lint", "tensorrt-10", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == status
    assert (document["artifact"], document["lint"][0]["refused"]) == (str(tmp_path / "out"), int(status > 0))
