"""Folders that export_generator writes open in optimum as they are, and generate the same tokens there.

optimum-onnx wants an older transformers than edgefold does, so it gets an environment of its own below the cache, made
once from its pins (about a gigabyte).
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import generating_models as models
import numpy as np
import pytest
import torch
from torch import Tensor

from edgefold.downloads import default_cache
from edgefold.exporters import export_generator
from edgefold.runtimes import generate, generate_sequence, open_sequence_sessions, open_session

PINS = ("optimum-onnx[onnxruntime]==0.1.0", "transformers==4.57.6", f"torch=={torch.__version__.partition('+')[0]}")
SCRIPT = Path(__file__).with_name("optimum_tokens.py")
TOKENS = 12


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of optimum's environment."""
    folder = default_cache() / "optimum-onnx-0.1.0"
    if not (folder / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, PINS[-1]], check=True)
        subprocess.run([*install, *PINS], check=True)
        (folder / "complete").touch()
    return folder / "bin" / "python"


def tokens_of_optimum(python: Path, kind: str, folder: Path, inputs: Mapping[str, Tensor]) -> list[list[int]]:
    given = json.dumps({name: value.tolist() for name, value in inputs.items()})
    run = [str(python), str(SCRIPT), kind, str(folder), str(TOKENS)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(run, input=given, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    found: list[list[int]] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


def assert_same(ours: list[Any], theirs: list[list[int]], skipped: int) -> None:
    """Theirs begin with `skipped` tokens that were given, and are padded behind their end."""
    for row, tokens in zip(ours, theirs, strict=True):
        assert tokens[skipped : skipped + len(row)] == row.tolist()
    print(f"\n{len(ours)} rows, {sum(map(len, ours))} tokens, all the same")


def test_a_language_model(python: Path, tmp_path: Path) -> None:
    batch = models.texts(left=True)
    artifact = export_generator(models.llama(), batch, tmp_path / "out")
    theirs = tokens_of_optimum(python, "causal", artifact.folder, batch)
    rows = [row[mask == 1].numpy() for row, mask in zip(*batch.values(), strict=True)]
    with open_session(artifact) as session:
        assert_same(generate(session, rows, TOKENS), theirs, batch["input_ids"].shape[1])


@pytest.mark.parametrize(("kind", "name", "skipped"), [("sequence", "t5", 1), ("speech", "whisper", 0)])
def test_an_encoder_decoder(python: Path, tmp_path: Path, kind: str, name: str, skipped: int) -> None:
    """Whisper's generate leaves out what the decoder begins with."""
    batch = models.texts() if kind == "sequence" else models.features()
    artifact = export_generator(models.MODELS[name](), batch, tmp_path / "out")
    theirs = tokens_of_optimum(python, kind, artifact.folder, batch)
    with open_sequence_sessions(artifact) as sessions:
        ours = generate_sequence(sessions, {key: np.asarray(value) for key, value in batch.items()}, TOKENS)
    assert_same(ours, theirs, skipped)
