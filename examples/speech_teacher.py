"""What `recipes/speech.yaml` compresses: Whisper tiny.en with a window of ten seconds, and recorded sentences.

apt-get download asterisk-core-sounds-en asterisk-core-sounds-en-wav pocketsphinx-testdata     # 20 MB, on any Debian
for package in *.deb; do dpkg-deb -x "$package" out/packages; done
python examples/speech_teacher.py out/packages out/speech
edgefold compress examples/recipes/speech.yaml --out out/recognizer

Training and validation: prompts of the telephone exchange Asterisk (Allison Smith; CC BY-SA 3.0), real speech of one
voice. Test: five sentences of Sense and Sensibility, read for LibriVox (BSD-2): another voice, and other words.
"""

import gzip
import json
import re
import sys
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from edgefold.packaged.speech import fetch_whisper_tiny
from edgefold.speech_windows import shorten_window

SECONDS, RATE = 10, 16000


def prompts(root: Path) -> Iterator[tuple[Path, str]]:
    """Of lines such as "vm-goodbye: Goodbye and thank you.", those of three words or more."""
    listed = root / "usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz"
    for name, said in re.findall(r"(?m)^([\w/-]+): (\w.*)$", gzip.decompress(listed.read_bytes()).decode()):
        path = root / "usr/share/asterisk/sounds/en_US_f_Allison" / f"{name}.wav"
        if len(said.split()) > 2 and path.is_file():
            yield path, said


def sentences(root: Path) -> Iterator[tuple[Path, str]]:
    """Of lines such as "<s> he was not </s> (name)"."""
    folder = root / "usr/share/pocketsphinx/test/data/librivox"
    for said, name in re.findall(r"<s> (.*) </s> \((.*)\)", (folder / "transcription").read_text(encoding="utf-8")):
        yield folder / f"{name}.wav", said


def resampled(samples: np.ndarray, rate: int) -> np.ndarray:
    """The same spectrum at the model's rate: nothing is added above half the old one."""
    count = len(samples) * RATE // rate
    return (np.fft.irfft(np.fft.rfft(samples), count) * count / len(samples)).clip(-32768, 32767).astype("<i2")


def write_split(rows: Iterable[tuple[Path, str]], file: Path) -> None:
    """A jsonl file, and beside it the recordings that the window is long enough for."""
    with open(file, "w", encoding="utf-8") as lines:
        for number, (path, said) in enumerate(rows):
            with wave.open(str(path)) as stream:
                rate, samples = stream.getframerate(), np.frombuffer(stream.readframes(stream.getnframes()), "<i2")
            if len(samples) <= SECONDS * rate:
                target = file.with_name(f"{file.stem}-{number}.wav")
                with wave.open(str(target), "wb") as stream:
                    stream.setparams((1, 2, RATE, 0, "NONE", ""))
                    stream.writeframes(resampled(samples, rate).tobytes())
                lines.write(json.dumps({"audio": target.name, "text": said}) + "\n")


def main(packages: str, out: str, pretrained: Path | None = None) -> None:
    data = Path(out) / "data"
    data.mkdir(parents=True, exist_ok=True)
    spoken = list(prompts(Path(packages)))
    write_split((row for number, row in enumerate(spoken) if number % 8), data / "train.jsonl")
    write_split(spoken[::8], data / "validation.jsonl")
    write_split(sentences(Path(packages)), data / "test.jsonl")
    shorten_window(pretrained or fetch_whisper_tiny(), SECONDS, Path(out) / "teacher", overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
