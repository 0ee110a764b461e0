"""Samples on which a model is exported, calibrated or compared: texts, questions with contexts, images, speech."""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from edgefold.errors import InputError

Kind = Literal["texts", "pairs", "questions", "images", "speech", "tensors", "made-up"]
"""Of "made-up" there are no samples: optimum makes up tensors by the model itself. "pairs" are of texts, or
texts that may be single: the model gets to know which token is of which. "tensors" are arrays by the names of the
inputs of a module of one's own, of which its folder keeps types, shapes and ranges."""
KINDS: dict[str, Kind] = {
    "ForQuestionAnswering": "questions",
    "ForImageClassification": "images",
    "WhisperForConditionalGeneration": "speech",
}
"""End of an architecture's name -> what it reads."""
GENERATORS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "MTModel")
"""Ends of the names of architectures that generate text."""
OF_TEXTS = (
    *("ForSequenceClassification", "ForTokenClassification", "ForMaskedLM"),
    *("Model", "Encoder", "ForPreTraining"),
)
"""Ends of the names of architectures that read texts, if with a vocabulary and no processor; the last lines: bodies."""
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Files of what prepares images or recordings, which no model of texts alone has."""
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json")
EXAMPLE_TEXTS = ("A short example.", "Another example, which is a little longer than the first one.")
"""Of different lengths, so that no size of theirs is taken for a constant."""
CLASSIFIER = "ForSequenceClassification"
"""End of the names of architectures that read a text, or two."""
EXAMPLE_QUESTIONS = tuple((f"What is example {number}?", text) for number, text in enumerate(EXAMPLE_TEXTS))


def find_kind(folder: Path) -> Kind:
    """What the model in a folder reads, by the architecture that its config.json names and the files beside it.

    Raises:
        InputError: the file is no JSON.
    """
    config = _read_config(folder)
    architecture = _architecture(config)
    if not architecture:  # a student of a module of one's own
        if (folder / "preprocessor_config.json").is_file():
            return "images"
        return "tensors" if input_facts(folder) else "texts"
    known = next((kind for end, kind in KINDS.items() if architecture.endswith(end)), None)
    of_texts_alone = not _holds(folder, PROCESSORS)
    if known and (known != "questions" or of_texts_alone):  # else of questions about images
        return known
    if architecture.endswith(GENERATORS):
        return "texts"
    has_text = "vocab_size" in config or _holds(folder, TOKENIZERS)
    return "texts" if architecture.endswith(OF_TEXTS) and has_text and of_texts_alone else "made-up"


def find_sample_kind(folder: Path, text_pair: str | None, file: Path | None) -> Kind:
    """As `find_kind`; of a model of texts also whether it reads them one by one or two at a time.

    Args:
        text_pair: the column of the second texts in `file`, where there are any.

    Raises:
        InputError: the column does not go with the model, or is not named for a file of pairs.
    """
    kind = find_kind(folder)
    if kind == "texts":
        return _find_text_kind(folder, text_pair, file)
    if text_pair:
        raise InputError(f"--text-pair is of classifiers of two texts; {folder} reads {kind}.")
    return kind


def _find_text_kind(folder: Path, text_pair: str | None, file: Path | None) -> Kind:
    """One text or two.

    A student tells what it was trained on. A checkpoint does not; a classifier may be of either, and is told which
    token is of which text, as its tokenizer has it. Other models of texts read one.
    """
    trained = _trained_on_pairs(folder)
    is_classifier = find_architecture(folder).endswith(CLASSIFIER)
    if text_pair and not is_classifier:
        raise InputError(f"--text-pair is of classifiers of two texts; {folder} holds a {find_architecture(folder)}.")
    if text_pair and trained is False:
        raise InputError(f"The student in {folder} was trained on single texts; leave --text-pair out.")
    if file and trained and not text_pair:
        raise InputError(
            f"The student in {folder} was trained on pairs of texts; name the column of the second ones in "
            f"{file}: --text-pair NAME."
        )
    return "pairs" if is_classifier and trained is not False else "texts"


def input_facts(folder: Path) -> list[dict[str, Any]]:
    """What is kept of the inputs of a module of one's own, in the folder of a student or of an artifact; else empty."""
    return list(_manifest(folder).get("inputs") or _lineage(folder).get("inputs") or [])


def _trained_on_pairs(folder: Path) -> bool | None:
    """As a student or an artifact of one tells; None where it does not."""
    found = _lineage(folder).get("text_pair")
    return found if isinstance(found, bool) else None


def _lineage(folder: Path) -> dict[str, Any]:
    return dict(_manifest(folder).get("lineage") or _manifest(folder, "artifact.json").get("lineage") or {})


def _manifest(folder: Path, name: str = "edgefold.json") -> dict[str, Any]:
    """Empty where there is none; what is wrong with it is said where the student is opened."""
    try:
        return dict(json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def generates_text(folder: Path) -> bool:
    """Whether the model in a folder generates text step by step, by the same.

    Raises:
        InputError: the file is no JSON.
    """
    return find_architecture(folder).endswith(GENERATORS)


def find_architecture(folder: Path) -> str:
    """The class that the config.json in a folder names; "" where there is none.

    Raises:
        InputError: the file is no JSON.
    """
    return _architecture(_read_config(folder))


def _architecture(config: dict[str, Any]) -> str:
    return str((config.get("architectures") or [""])[0])


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        _architecture(config)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise InputError(f"{folder / 'config.json'} cannot be read as JSON: {error}.") from None
    return dict(config)


def _holds(folder: Path, names: Sequence[str]) -> bool:
    return any((folder / name).is_file() for name in names)


def check_made_up(folder: Path, calibration: Path | None, quantization: str | None) -> None:
    """Refuse early to export a model of inputs made up: without what makes them, or with samples.

    Raises:
        InputError: optimum is not installed, or static int8 or a file for it is asked for.
    """
    architecture = find_architecture(folder)
    check_optimum(architecture, "edgefold.exporters.export_onnx(model, inputs, out)")
    if calibration or quantization == "static":
        raise InputError(
            f"The inputs of a {architecture} are made up: there are no samples to calibrate with. Give --quantization "
            "dynamic and no --calibration; in Python there is edgefold.exporters.export_onnx(..., calibration=batches)."
        )


def check_optimum(architecture: str, in_python: str) -> None:
    """Refuse a model whose inputs optimum has to make up, if it is not installed.

    Args:
        in_python: what does the same with inputs of the caller's.

    Raises:
        InputError: it is not.
    """
    if not has_optimum():
        raise InputError(
            f"The command line has no inputs for a {architecture} of its own; pip install 'edgefold[optimum]', which "
            f"makes them up. In Python there is {in_python}."
        )


def has_optimum() -> bool:
    """Whether optimum and what it imports are installed; the name alone is edgefold's, too, which registers there."""
    return all(find_spec(name) is not None for name in ("optimum", "optimum.exporters", "requests"))


def read_samples(
    kind: Kind, path: Path, text: str, limit: int, text_pair: str | None = None, names: Sequence[str] = ()
) -> list[Any]:
    """The first samples of a file: texts (csv, tsv, jsonl, txt), pairs of question and context (csv, tsv, jsonl),
    images (.npz, or a folder of class folders), or recordings with their rate (jsonl that names .wav files).

    Args:
        text: the column of the texts; of lists of words too, which are joined by blanks.
        text_pair: the column of the second texts, where there are two each.
        names: of the inputs, for tensors: an array for each in an .npz file.

    Raises:
        InputError: naming the file, and the line or column that is wrong.
    """
    if kind == "images":
        from edgefold.data.images import read_images

        return list(read_images(path))[:limit]
    if kind == "tensors":
        from edgefold.data.tensors import read_arrays

        inputs = read_arrays(path, names=names).inputs
        return [{name: array[row] for name, array in inputs.items()} for row in range(len(inputs[names[0]]))][:limit]
    if kind == "speech":
        from edgefold.data.speech import read_recordings

        return [(recording.rate, recording.samples()) for recording in read_recordings(path)[:limit]]
    if kind == "questions":
        from edgefold.data.records import check_data_file, read_records, text_value

        columns = ("question", "context")
        return [
            tuple(text_value(record[column], column, f"{path}, line {line}") for column in columns)
            for line, record in read_records(check_data_file(path), columns)
        ][:limit]
    if kind == "pairs" and text_pair:
        from edgefold.data.texts import read_text_pairs

        return list(read_text_pairs(path, text=text, text_pair=text_pair))[:limit]
    return _read_texts(path, text)[:limit]


def _read_texts(path: Path, column: str) -> list[str]:
    from edgefold.data.records import check_data_file, read_records, text_value
    from edgefold.data.texts import read_texts

    if path.suffix.lower() != ".jsonl":
        return list(read_texts(path, text=column))
    texts = []
    for line, record in read_records(check_data_file(path), (column,)):
        value = record[column]
        joined = " ".join(map(str, value)) if isinstance(value, list) else value
        texts.append(text_value(joined, column, f"{path}, line {line}"))
    return texts


def check_samples(path: Path, role: str, kind: Kind) -> None:
    """Refuse a path that is not there, and one that there is no reading of.

    Raises:
        InputError: naming it.
    """
    if kind == "made-up":
        raise InputError(f"The {role} {path} is of no use: the inputs of this model are made up. Leave it out.")
    if not (path.is_file() or (kind == "images" and path.is_dir())):
        what = "is a folder; give a file" if path.is_dir() else "does not exist; give a file"
        raise InputError(f"The {role} {path} {what}.")


def example_samples(kind: Kind) -> Sequence[Any]:
    """Two made-up samples, for a trace; their values mean nothing."""
    if kind == "images":
        import numpy as np

        from edgefold.data.images import LabelledImage

        generator = np.random.default_rng(0)
        return [LabelledImage(generator.integers(0, 256, (32, 48, 3), dtype=np.uint8), "") for _ in range(2)]
    if kind == "speech":
        import numpy as np

        generator = np.random.default_rng(0)
        return [(16_000, generator.normal(0, 0.1, length).astype(np.float32)) for length in (16_000, 24_000)]
    return EXAMPLE_QUESTIONS if kind in ("questions", "pairs") else EXAMPLE_TEXTS
