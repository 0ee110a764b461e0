"""Samples on which a model is exported, calibrated or compared: texts, questions with their contexts, or images."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from edgefold.errors import InputError

Kind = Literal["texts", "questions", "images"]
KINDS: dict[str, Kind] = {"ForQuestionAnswering": "questions", "ForImageClassification": "images"}
"""End of an architecture's name -> what it reads; any other reads texts."""
EXAMPLE_TEXTS = ("A short example.", "Another example, which is a little longer than the first one.")
"""Of different lengths, so that no size of theirs is taken for a constant."""
EXAMPLE_QUESTIONS = tuple((f"What is example {number}?", text) for number, text in enumerate(EXAMPLE_TEXTS))


def find_kind(folder: Path) -> Kind:
    """What the model in a folder reads, by the architecture that its config.json names.

    Raises:
        InputError: the file is no JSON.
    """
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or [""]
    except FileNotFoundError:  # a student of a module of one's own
        return "images" if (folder / "preprocessor_config.json").is_file() else "texts"
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read as JSON: {error}.") from None
    return next((kind for end, kind in KINDS.items() if str(named[0]).endswith(end)), "texts")


def read_samples(kind: Kind, path: Path, text: str, limit: int) -> list[Any]:
    """The first samples of a file: texts (csv, tsv, jsonl, txt), pairs of question and context (csv, tsv, jsonl), or
    images (.npz, or a folder of class folders).

    Args:
        text: the column of the texts; of lists of words too, which are joined by blanks.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    if kind == "images":
        from edgefold.image_data import read_images

        return list(read_images(path))[:limit]
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
    return EXAMPLE_QUESTIONS if kind == "questions" else EXAMPLE_TEXTS
