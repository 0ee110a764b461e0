"""Shorter windows: the whole window changes nothing, a part keeps the first positions and asks for fewer frames."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packed_whisper import START, make_whisper, make_whisper_tokenizer

from edgefold.errors import InputError
from edgefold.speech_windows import shorten_window


@pytest.fixture
def source(tmp_path: Path) -> Path:
    from transformers import WhisperFeatureExtractor, WhisperTokenizer

    folder = tmp_path / "source"
    make_whisper(3).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=8, chunk_length=3).save_pretrained(folder)
    make_whisper_tokenizer().save(str(folder / "tokenizer.json"))
    tokenizer: Any = WhisperTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def opened(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoFeatureExtractor, AutoModelForSpeechSeq2Seq

    opener: Any = AutoFeatureExtractor
    return AutoModelForSpeechSeq2Seq.from_pretrained(folder).eval(), opener.from_pretrained(folder)


@pytest.mark.parametrize("seconds", [3, 1])
def test_the_model_takes_what_its_extractor_makes(source: Path, tmp_path: Path, seconds: int) -> None:
    model, extractor = opened(shorten_window(source, seconds, tmp_path / "out"))
    features = extractor(np.sin(np.arange(8000) / 9), sampling_rate=16000, return_tensors="pt")["input_features"]
    assert features.shape == (1, 8, 100 * seconds)
    ids = torch.tensor([[START, 1, 2]])
    with torch.no_grad():
        logits = model(input_features=features, decoder_input_ids=ids).logits
        whole = make_whisper(3)(
            input_features=opened(source)[1](np.sin(np.arange(8000) / 9), sampling_rate=16000, return_tensors="pt")[
                "input_features"
            ],
            decoder_input_ids=ids,
        ).logits
    assert torch.equal(logits, whole) == (seconds == 3)
    first = make_whisper(3).model.encoder.embed_positions.weight[: 50 * seconds]
    assert torch.equal(model.model.encoder.embed_positions.weight, first)
    assert model.generation_config.decoder_start_token_id == START


def test_refusals(source: Path, tmp_path: Path) -> None:
    for seconds in (0, 4):
        with pytest.raises(InputError, match=f"A window of {seconds} s cannot be cut from 3 s; choose 1 to 3 seconds"):
            shorten_window(source, seconds, tmp_path / "out")
    assert not (tmp_path / "out").exists()
