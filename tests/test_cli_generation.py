"""export, verify and bench of models that generate text or transcribe speech."""

import json
import wave
from pathlib import Path
from typing import Any

import generating_models as models
import numpy as np
import pytest
from task_jobs import VOCABULARY, WORDS, make_tokenizer, write_rows
from typer.testing import CliRunner, Result

from edgefold.cli.application import app

pytestmark = pytest.mark.filterwarnings("ignore")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(*arguments: object) -> dict[str, Any]:
    result = invoke(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_language_model_from_checkpoint_to_measured_times(tmp_path: Path) -> None:
    folder, out = tmp_path / "model", tmp_path / "out"
    models.llama().save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    assert len(VOCABULARY) <= models.VOCABULARY
    data = write_rows(tmp_path / "data.jsonl", ({"text": " ".join(WORDS[: 2 + i])} for i in range(6)))
    document = answer("export", folder, "--out", out, "--calibration", data)
    assert document["parity"]["fp32"] < 1e-5
    assert json.loads((out / "artifact.json").read_text())["task"] == "text-generation-with-past"
    verified = answer("verify", out, "--against", folder, "--data", data)
    assert (verified["inputs"], list(verified["outputs"])) == ("6 texts", ["logits"])
    assert verified["outputs"]["logits"]["max_error"] < 1e-4
    assert answer("verify", out, "--against", folder)["passed"]
    decode = invoke("bench", out, "--seconds", 0.05, "--sequence", 1, "--past", 16)
    assert decode.exit_code == 0, decode.stderr
    assert "1 tokens after 16" in decode.stdout


def test_a_speech_model_from_checkpoint_to_measured_times(tmp_path: Path) -> None:
    from transformers import WhisperFeatureExtractor

    folder, out = tmp_path / "model", tmp_path / "out"
    models.whisper().save_pretrained(folder)
    # 40 frames: a hop of 400 samples, 16 000 of them
    WhisperFeatureExtractor(feature_size=8, hop_length=400, chunk_length=1).save_pretrained(folder)
    with wave.open(str(tmp_path / "one.wav"), "wb") as stream:
        stream.setparams((1, 2, 16_000, 0, "NONE", ""))
        stream.writeframes(np.random.default_rng(0).integers(-9999, 9999, 12_000).astype("<i2").tobytes())
    data = write_rows(tmp_path / "data.jsonl", [{"audio": "one.wav", "text": "noise"}])
    assert answer("export", folder, "--out", out)["parity"]["fp32"] < 1e-5
    assert {"preprocessor_config.json", "encoder_model.onnx"} <= {path.name for path in out.iterdir()}
    verified = answer("verify", out, "--against", folder, "--data", data)
    assert (verified["inputs"], verified["passed"]) == ("1 speech", True)
    for part in ("encoder", "decoder_with_past"):
        measured = answer("bench", out, "--part", part, "--sequence", 1, "--past", 4, "--seconds", 0.05)
        assert measured["reports"][0]["p50_s"] > 0


def test_what_is_not_there_yet_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    models.gpt2().config.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "architectures": ["GPT2LMHeadModel"]}))
    given = ("export", folder, "--out", tmp_path / "out", "--precision", "int8", "--quantization", "static")
    result = invoke(*given)
    assert result.exit_code == 2
    assert "Static int8 is not there yet for models that generate text" in " ".join(result.stderr.split())
