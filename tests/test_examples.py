"""Each example runs as written, is short, and does what it says."""

from pathlib import Path

import pytest
from example_scripts import EXAMPLES, load


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short(path: Path) -> None:
    code = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) < 60


def test_hugging_face(tmp_path: Path, job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForSequenceClassification

    load("hugging_face").main(str(job / "teacher"), str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "hidden" in printed
    assert "int8, batch 4" in printed
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out" / "student")
    assert opened.config.hidden_size == 12


def test_plain_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load("plain_module").main(str(tmp_path / "out"), epochs=1)
    printed = capsys.readouterr().out
    assert "channels.1" in printed
    assert "student" in printed
    assert "onnx: onnxruntime on cpu, fp32, batch 1" in printed


def test_tagging_teacher(tmp_path: Path, job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a package of the same form: ten documents, the first for the test, the second for validation."""
    import io
    import tarfile

    from transformers import AutoModelForTokenClassification

    line = "\n\tworda/at wordb/nn-tl wordc/fw-jj+vbz wordd/-- worde/.\n\n"
    with tarfile.open(tmp_path / "brown.tgz", "w:gz") as package:
        for number in range(1, 13):
            entry = tarfile.TarInfo(f"package/ca{number:02}")
            content = (line * number).encode()
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    load("tagging_teacher").main(str(tmp_path / "brown.tgz"), str(tmp_path / "out"), job / "teacher")
    data = tmp_path / "out" / "data"
    rows = {split: (data / f"{split}.jsonl").read_text() for split in ("train", "validation", "test")}
    assert {split: text.count("\n") for split, text in rows.items()} == {"train": 52, "validation": 14, "test": 12}
    assert '"tags": ["at", "nn", "jj", "-", "."]' in rows["train"]
    model = AutoModelForTokenClassification.from_pretrained(tmp_path / "out" / "teacher")
    assert set(model.config.label2id) == {"at", "nn", "jj", "-", "."}
    assert "accuracy on the validation data" in capsys.readouterr().out
