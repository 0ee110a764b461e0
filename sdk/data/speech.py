"""Recordings and what is said in them, from jsonl files that name .wav files, checked row by row; no framework."""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefold.data.records import check_data_file, read_records, text_value
from edgefold.errors import InputError

FULL_SCALE = 2.0**15


@dataclass(frozen=True)
class Recording:
    """One .wav file, its text, and where that was said."""

    file: Path
    text: str
    rate: int
    """Samples a second."""
    where: str

    def samples(self) -> NDArray[np.float32]:
        """(samples,) from -1 to 1; several channels are averaged."""
        with wave.open(str(self.file)) as stream:
            values = np.frombuffer(stream.readframes(stream.getnframes()), "<i2").reshape(-1, stream.getnchannels())
        return np.asarray(values.mean(1) / FULL_SCALE, np.float32)


def read_recordings(path: str | Path) -> list[Recording]:
    """Read rows such as {"audio": "one.wav", "text": "..."}; relative names start at the folder of the jsonl file.

    Raises:
        InputError: naming the file and line; a recording that is not there or is no 16-bit PCM.
    """
    file = check_data_file(path, (".jsonl",))
    rows = []
    for line, record in read_records(file, ("audio", "text")):
        where = f"{file}, line {line}"
        recording = file.parent / text_value(record["audio"], "audio", where)
        rows.append(Recording(recording, text_value(record["text"], "text", where), _rate(recording, where), where))
    return rows


def _rate(file: Path, where: str) -> int:
    """The sampling rate that the header says."""
    try:
        with wave.open(str(file)) as stream:
            if stream.getsampwidth() != 2:
                raise InputError(f"{where}: {file} has {8 * stream.getsampwidth()}-bit samples; give 16-bit PCM.")
            if not stream.getnframes():
                raise InputError(f"{where}: {file} holds no samples.")
            return int(stream.getframerate())
    except (OSError, wave.Error, EOFError) as error:
        raise InputError(f"{where}: {file} cannot be read as a .wav file of PCM samples: {error}.") from None
