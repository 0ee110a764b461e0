"""Recordings: what was written is read, and that every bad row is refused with its line."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from edgefold.data.speech import read_recordings
from edgefold.errors import InputError


def write_wave(path: Path, samples: np.ndarray, channels: int = 1, width: int = 2, rate: int = 16000) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(channels)
        stream.setsampwidth(width)
        stream.setframerate(rate)
        stream.writeframes(samples.tobytes())


def rows(folder: Path, *names: str) -> Path:
    path = folder / "data.jsonl"
    path.write_text("".join(json.dumps({"audio": name, "text": "one"}) + "\n" for name in names))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    values = np.array([0, 16384, -32768, 32767], "<i2")
    write_wave(tmp_path / "one.wav", values)
    write_wave(tmp_path / "two.wav", np.stack([values, -(values // 2) * 2 // 2], 1), channels=2, rate=8000)
    one, two = read_recordings(rows(tmp_path, "one.wav", "two.wav"))
    assert (one.rate, two.rate, one.text) == (16000, 8000, "one")
    assert one.samples().tolist() == [0, 0.5, -1, 32767 / 32768]
    assert two.samples().shape == (4,)
    assert one.samples().dtype == two.samples().dtype == np.float32


def test_refusals(tmp_path: Path) -> None:
    write_wave(tmp_path / "one.wav", np.zeros(4, "<i2"))
    write_wave(tmp_path / "bytes.wav", np.zeros(4, "u1"), width=1)
    write_wave(tmp_path / "none.wav", np.zeros(0, "<i2"))
    (tmp_path / "text.wav").write_text("no recording")
    for name, expected in (
        ("bytes.wav", r"bytes\.wav has 8-bit samples; give 16-bit PCM"),
        ("none.wav", r"none\.wav holds no samples"),
        ("text.wav", r"text\.wav cannot be read as a \.wav file"),
        ("missing.wav", r"missing\.wav cannot be read as a \.wav file"),
    ):
        with pytest.raises(InputError, match=rf"data\.jsonl, line 2: .*{expected}"):
            read_recordings(rows(tmp_path, "one.wav", name))
