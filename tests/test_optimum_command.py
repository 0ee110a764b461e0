"""`optimum-cli export edgefold`: found by optimum, and the same job as `edgefold export`."""

import sys
from pathlib import Path
from typing import Any

import pytest
from optimum.commands import optimum_cli

from edgefold.artifacts import load_artifact
from edgefold.cli import export_job
from edgefold.cli.answers import Answer

pytestmark = pytest.mark.filterwarnings("ignore")


def optimum(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit status of `optimum-cli export`."""
    monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        optimum_cli.main()
    return int(left.value.code or 0)


def test_optimum_lists_edgefold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert optimum(monkeypatch, "--help") == 0
    assert "Export a student of edgefold" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_is_exported(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert optimum(monkeypatch, "edgefold", job / "teacher", tmp_path / "out") == 0
    artifact = load_artifact(tmp_path / "out")
    assert (artifact.precision, artifact.lineage["teacher"]) == ("fp32", "teacher")
    assert {"model.onnx", "config.json", "tokenizer.json"} < set(artifact.files)


def test_every_option_reaches_the_job_of_edgefold(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def export(folder: Path, out: Path, **options: Any) -> Answer:
        seen.update(options, folder=folder, out=out)
        return Answer({}, ())

    monkeypatch.setattr(export_job, "export_checkpoint", export)
    options = ("--precision", "int8", "--quantization", "dynamic", "--layout", "transformers.js", "--overwrite")
    assert optimum(monkeypatch, "edgefold", job / "teacher", tmp_path / "out", *options) == 0
    assert (seen["folder"], seen["out"]) == (job / "teacher", tmp_path / "out")
    assert (seen["precision"], seen["quantization"], seen["layout"]) == ("int8", "dynamic", "transformers.js")
    assert seen["overwrite"]


def test_errors_and_their_status_are_those_of_edgefold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert optimum(monkeypatch, "edgefold", tmp_path / "missing", tmp_path / "out") == 2
    assert "missing does not exist; give a folder" in " ".join(capsys.readouterr().err.split())
