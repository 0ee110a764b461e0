"""Samples as the arrays that a model reads, made by the tokenizer or processor beside it; needs no torch."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.cli.samples import Kind
from edgefold.cli.tokenizers import open_tokenizer
from edgefold.errors import InputError

Arrays = dict[str, NDArray[Any]]
BATCH_SIZE = 16


def open_processor(folder: Path, kind: Kind) -> Any:
    """The tokenizer, image processor or feature extractor beside a model; None of tensors.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if kind == "tensors":
        return None
    if kind not in ("speech", "images"):
        return open_tokenizer(folder)
    from edgefold.preprocessors import open_feature_extractor, open_image_processor

    return open_feature_extractor(folder) if kind == "speech" else open_image_processor(folder)


def encode_samples(
    folder: Path, kind: Kind, processor: Any, samples: Sequence[Any], max_length: int, size: int = BATCH_SIZE
) -> Iterator[Arrays]:
    """Batches of arrays by the names of the model's inputs; texts of like length together."""
    if kind == "images":
        channels = _channels(folder)
        for some in _pieces(samples, size):
            pixels = [image.pixels(channels) for image in some]
            yield dict(processor(pixels, return_tensors="np", input_data_format="channels_last"))
        return
    if kind == "tensors":
        for some in _pieces(samples, size):
            yield {name: np.stack([row[name] for row in some]) for name in some[0]}
        return
    if kind == "speech":
        for some in _pieces(samples, size):
            yield _encode_speech(processor, some)
        return
    for some in _pieces(sorted(samples, key=_length), size):
        yield _encode_texts(kind, processor, some, max_length)


def _encode_texts(kind: Kind, tokenizer: Any, some: Sequence[Any], max_length: int) -> Arrays:
    if tokenizer.pad_token is None:  # as of GPT-2's: the mask alone tells padding from text
        tokenizer.pad_token = tokenizer.eos_token
    options = {"padding": True, "max_length": max_length, "return_tensors": "np"}
    if kind in ("questions", "pairs"):
        columns = [list(some)] if isinstance(some[0], str) else [[pair[i] for pair in some] for i in (0, 1)]
        encoded = tokenizer(*columns, truncation="only_second" if kind == "questions" else True, **options)
        return {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}
    encoded = tokenizer(list(some), truncation=True, **options)
    return {name: encoded[name] for name in ("input_ids", "attention_mask") if name in encoded}


def _encode_speech(extractor: Any, some: Sequence[tuple[int, NDArray[Any]]]) -> Arrays:
    rates = sorted({rate for rate, _ in some})
    if rates != [extractor.sampling_rate]:
        raise InputError(
            f"The model reads {extractor.sampling_rate} samples a second; the recordings have "
            f"{', '.join(map(str, rates))}. Resample them, as with sox or ffmpeg."
        )
    return dict(extractor([values for _, values in some], sampling_rate=rates[0], return_tensors="np"))


def _length(sample: Any) -> int:
    return len(sample) if isinstance(sample, str) else sum(map(len, sample))


def _pieces(samples: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (samples[start : start + size] for start in range(0, len(samples), size))


def _channels(folder: Path) -> int:
    file = folder / "config.json"
    fields = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return int(fields.get("num_channels", 3))
