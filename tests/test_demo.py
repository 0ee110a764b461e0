"""The demo itself, quick: real model, real text, every output there and true to its own figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edgefold.artifacts import load_artifact
from edgefold.cli import demo_job
from edgefold.cli.application import app
from edgefold.data.texts import TextSplits
from edgefold.reporting.summaries import DemoSummary


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick one on fewer texts; seed and data are the same each time."""
    out = tmp_path_factory.mktemp("demo") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo_job, "_shortened", fewer)
        result = CliRunner().invoke(app, ["demo", "--quick", "--json", "--out", str(out)])
    assert result.exit_code in (0, 3), result.stderr  # a gate may be missed by so short a training, and says so
    assert json.loads(result.stdout) == json.loads((out / "summary.json").read_text())
    return out


def fewer(splits: TextSplits) -> TextSplits:
    return TextSplits(splits.label_names, splits.train[:640], splits.validation[:100], splits.test[:100])


@pytest.mark.slow
def test_the_summary_follows_from_its_rows(demo: Path) -> None:
    summary = DemoSummary.model_validate_json((demo / "summary.json").read_text())
    by_name = {result.name: result for result in summary.results}
    assert summary.teacher_accuracy == by_name["teacher fp32"].accuracy
    assert summary.student_accuracy == by_name["student fp32"].accuracy
    assert summary.speedup_fp32 == by_name["student fp32"].ratio.value > 2
    assert summary.teacher_encoder_parameters > 8 * summary.student_encoder_parameters
    assert 0.6 < summary.student_accuracy <= 1
    assert {gate.name.split(":")[0]: gate.passed for gate in summary.gates if "int8" not in gate.name} == {
        "fold": True,
        "export": True,
    }


@pytest.mark.slow
def test_the_student_opens_without_edgefold(demo: Path) -> None:
    script = (
        "import sys\n"
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer\n"
        "model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])\n"
        "tokens = AutoTokenizer.from_pretrained(sys.argv[1])('a joy', return_tensors='pt')\n"
        "assert model(**tokens).logits.shape == (1, 2)\n"
        "assert not any(name.startswith('edgefold') for name in sys.modules)\n"
        "print(model.config.hidden_size)\n"
    )
    command = [sys.executable, "-c", script, str(demo / "student")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "128"


@pytest.mark.slow
def test_artifacts_and_report_are_whole(demo: Path) -> None:
    names = {path.name for path in (demo / "onnx").iterdir()}
    assert names == {
        f"{model}-{kind}" for model in ("teacher", "student") for kind in ("fp32", "int8-static", "int8-dynamic")
    }
    for name in names:
        artifact = load_artifact(demo / "onnx" / name)
        assert (artifact.folder / "config.json").is_file()
        assert (artifact.folder / "tokenizer.json").is_file()
        assert artifact.inputs[0].shape == ("batch", "sequence")
    page = (demo / "report.html").read_text(encoding="utf-8")
    assert "student int8" in page
    assert "quick run" in page
