"""export, verify and bench of models that tag words, answer questions and tell images apart."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_jobs import SIZES, WORDS, make_tokenizer, write_rows
from typer.testing import CliRunner, Result

from edgefold.cli.application import app

pytestmark = pytest.mark.filterwarnings("ignore")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tagger(folder: Path) -> Path:
    from transformers import BertConfig, BertForTokenClassification

    BertForTokenClassification(BertConfig(**SIZES, num_labels=4)).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    return write_rows(folder / "data.jsonl", ({"text": WORDS[: 2 + i]} for i in range(6)))


def answerer(folder: Path) -> Path:
    from transformers import BertConfig, BertForQuestionAnswering

    BertForQuestionAnswering(BertConfig(**SIZES)).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    return write_rows(
        folder / "data.jsonl", ({"question": WORDS[i], "context": " ".join(WORDS[: 3 + i])} for i in range(6))
    )


def seer(folder: Path) -> Path:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3)
    ViTForImageClassification(config).save_pretrained(folder / "model")
    processor: Any = ViTImageProcessorPil(size={"height": 16, "width": 16})
    processor.save_pretrained(folder / "model")
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 12), dtype=np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(6) % 3)
    return folder / "data.npz"


@pytest.mark.parametrize(
    ("make", "inputs", "outputs"),
    [
        (tagger, ["input_ids", "attention_mask"], ["logits"]),
        (answerer, ["input_ids", "token_type_ids", "attention_mask"], ["start_logits", "end_logits"]),
        (seer, ["pixel_values"], ["logits"]),
    ],
)
def test_from_a_checkpoint_to_measured_times(
    make: Callable[[Path], Path], inputs: list[str], outputs: list[str], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    data = make(tmp_path)
    result = invoke("export", tmp_path / "model", "--out", tmp_path / "fp32", "--max-length", 24, "--json")
    assert result.exit_code == 0, result.stderr
    artifact = json.loads((tmp_path / "fp32" / "artifact.json").read_text())
    assert sorted(spec["name"] for spec in artifact["inputs"]) == sorted(inputs)
    given = ("verify", tmp_path / "fp32", "--against", tmp_path / "model", "--data", data, "--max-length", 24, "--json")
    verified = invoke(*given)
    assert verified.exit_code == 0, verified.stderr
    document = json.loads(verified.stdout)
    assert sorted(document["outputs"]) == sorted(outputs)
    assert document["inputs"].startswith("6 ")
    measured = invoke("bench", tmp_path / "fp32", "--seconds", 0.05, "--sequence", 8, "--json")
    assert measured.exit_code == 0, measured.stderr
    assert json.loads(measured.stdout)["reports"][0]["p50_s"] > 0


def test_images_calibrate_int8(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = seer(tmp_path)
    given = ("export", tmp_path / "model", "--out", tmp_path / "int8", "--precision", "int8", "--calibration")
    missing = invoke(*given, tmp_path / "none.npz")
    assert missing.exit_code == 2
    assert "none.npz does not exist; give a file" in missing.stderr
    assert invoke(*given, data).exit_code == 0
