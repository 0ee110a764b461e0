"""Samples on which a model is exported, calibrated or compared: texts, questions with contexts, images, speech."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from edgefold.errors import InputError

Kind = Literal["texts", "questions", "images", "speech"]
KINDS: dict[str, Kind] = {
    "ForQuestionAnswering": "questions",
    "ForImageClassification": "images",
    "WhisperForConditionalGeneration": "speech",
}
"""End of an architecture's name -> what it reads; any other reads texts."""
GENERATORS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")
"""Ends of the names of architectures that generate text."""
NOT_YET = ("ForCTC", "ForAudioClassification", "ForImageTextToText", "ForVision2Seq")
"""Ends of the names of architectures whose inputs the command line cannot make."""
EXAMPLE_TEXTS = ("A short example.", "Another example, which is a little longer than the first one.")
"""Of different lengths, so that no size of theirs is taken for a constant."""
EXAMPLE_QUESTIONS = tuple((f"What is example {number}?", text) for number, text in enumerate(EXAMPLE_TEXTS))


def find_kind(folder: Path) -> Kind:
    """What the model in a folder reads, by the architecture that its config.json names.

    Raises:
        InputError: the file is no JSON, or inputs of that kind cannot be made here.
    """
    architecture = _read_architecture(folder)
    if not architecture:  # a student of a module of one's own
        return "images" if (folder / "preprocessor_config.json").is_file() else "texts"
    if architecture.endswith(NOT_YET):
        raise InputError(
            f"The command line has no inputs for a {architecture} yet; in Python there is "
            "edgefold.exporters.export_onnx(model, inputs, out)."
        )
    return next((kind for end, kind in KINDS.items() if architecture.endswith(end)), "texts")


def generates_text(folder: Path) -> bool:
    """Whether the model in a folder generates text step by step, by the same.

    Raises:
        InputError: the file is no JSON.
    """
    return _read_architecture(folder).endswith(GENERATORS)


def _read_architecture(folder: Path) -> str:
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read as JSON: {error}.") from None
    return str(named[0])


def read_samples(kind: Kind, path: Path, text: str, limit: int) -> list[Any]:
    """The first samples of a file: texts (csv, tsv, jsonl, txt), pairs of question and context (csv, tsv, jsonl),
    images (.npz, or a folder of class folders), or recordings with their rate (jsonl that names .wav files).

    Args:
        text: the column of the texts; of lists of words too, which are joined by blanks.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    if kind == "images":
        from edgefold.image_data import read_images

        return list(read_images(path))[:limit]
    if kind == "speech":
        from edgefold.speech_data import read_recordings

        return [(recording.rate, recording.samples()) for recording in read_recordings(path)[:limit]]
    if kind == "questions":
        from edgefold.data_files import check_data_file, read_records, text_value

        columns = ("question", "context")
        return [
            tuple(text_value(record[column], column, f"{path}, line {line}") for column in columns)
            for line, record in read_records(check_data_file(path), columns)
        ][:limit]
    return _read_texts(path, text)[:limit]


def _read_texts(path: Path, column: str) -> list[str]:
    from edgefold.data_files import check_data_file, read_records, text_value
    from edgefold.text_data import read_texts

    if path.suffix.lower() != ".jsonl":
        return list(read_texts(path, text=column))
    texts = []
    for line, record in read_records(check_data_file(path), (column,)):
        value = record[column]
        joined = " ".join(map(str, value)) if isinstance(value, list) else value
        texts.append(text_value(joined, column, f"{path}, line {line}"))
    return texts


def check_samples(path: Path, role: str, kind: Kind) -> None:
    """Refuse a path that is not there.

    Raises:
        InputError: naming it.
    """
    if not (path.is_file() or (kind == "images" and path.is_dir())):
        what = "is a folder; give a file" if path.is_dir() else "does not exist; give a file"
        raise InputError(f"The {role} {path} {what}.")


def example_samples(kind: Kind) -> Sequence[Any]:
    """Two made-up samples, for a trace; their values mean nothing."""
    if kind == "images":
        import numpy as np

        from edgefold.image_data import LabelledImage

        generator = np.random.default_rng(0)
        return [LabelledImage(generator.integers(0, 256, (32, 48, 3), dtype=np.uint8), "") for _ in range(2)]
    if kind == "speech":
        import numpy as np

        generator = np.random.default_rng(0)
        return [(16_000, generator.normal(0, 0.1, length).astype(np.float32)) for length in (16_000, 24_000)]
    return EXAMPLE_QUESTIONS if kind == "questions" else EXAMPLE_TEXTS
