"""`edgefold export --layout transformers.js`: what is written, that we open it, and what is refused before any work."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from edgefold.artifacts import load_artifact
from edgefold.cli import export, export_job
from edgefold.cli.answers import Answer
from edgefold.cli.application import app

pytestmark = pytest.mark.filterwarnings("ignore")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_a_classifier_for_transformers_js_is_verified_as_any_other(job: Path, tmp_path: Path) -> None:
    given = ("--precision", "int8", "--quantization", "dynamic", "--layout", "transformers.js")
    result = invoke("export", job / "teacher", "--out", tmp_path / "web", *given, "--json")
    assert result.exit_code == 0, result.stderr
    artifact = load_artifact(tmp_path / "web")
    assert json.loads(result.stdout)["size_bytes"] == artifact.size_bytes
    assert artifact.model_file == "onnx/model_quantized.onnx"
    assert artifact.lineage["opset"] == 20
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} < set(artifact.files)
    verified = invoke("verify", tmp_path / "web", "--against", job / "teacher", "--data", job / "test.csv", "--json")
    assert json.loads(verified.stdout)["outputs"]["logits"]["cosine"] > 0.99


def test_what_cannot_be_laid_out_is_refused(make_artifact: Callable[..., Any], tmp_path: Path) -> None:
    make_artifact(tmp_path / "artifact")
    for name, file in (("module", "edgefold.json"), ("model", "config.json")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("{}")
    cases = [
        ("artifact", (), "write_transformers_js(["),
        ("module", (), "has no config.json, by which"),
        ("model", ("--format", "tensorrt"), "--layout transformers.js does not go with --format tensorrt"),
    ]
    for name, more, says in cases:
        result = invoke("export", tmp_path / name, "--out", tmp_path / "out", "--layout", "transformers.js", *more)
        assert (result.exit_code, says in " ".join(result.stderr.split())) == (2, True), result.stderr


@pytest.mark.parametrize(
    ("more", "others"),
    [((), ("openvino",)), (("--layout", "transformers.js"), ()), (("--target", "cpu-x86"), ())],
    ids=["for this machine", "for a browser", "for a target"],
)
def test_openvino_is_a_candidate_where_its_artifact_would_serve(
    more: tuple[str, ...], others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[str, Any] = {}
    monkeypatch.setattr(export_job, "export_checkpoint", lambda *_, **settings: seen.update(settings) or Answer({}, ()))
    monkeypatch.setattr(export, "can_quantize", lambda: True)
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "config.json").write_text("{}")
    result = invoke("export", tmp_path / "student", "--out", tmp_path / "out", *more)
    assert result.exit_code == 0, result.stderr
    assert seen["others"] == others
