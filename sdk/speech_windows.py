"""A Whisper that listens to a shorter window: where no recording lasts 30 s, the encoder need not work for 30 s."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

from edgefold.errors import InputError
from edgefold.staging import staged_folder

POSITIONS = "model.encoder.embed_positions.weight"


def shorten_window(source: str | Path, seconds: int, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write the checkpoint of a Whisper with its processor, for windows of so many seconds.

    Of the encoder's positions, 50 for a second, the first are kept, so each means what it meant. The model computes
    something else than before, for it no longer attends to the silence that filled the window.

    Raises:
        InputError: more seconds than the source has, or none; `out` exists and is not empty.
    """
    opener: Any = WhisperForConditionalGeneration
    model = opener.from_pretrained(source, local_files_only=True, use_safetensors=True)
    extractor_class: Any = WhisperFeatureExtractor
    features: dict[str, Any] = extractor_class.from_pretrained(source, local_files_only=True).to_dict()
    longest = features["chunk_length"]
    if not 1 <= seconds <= longest:
        raise InputError(f"A window of {seconds} s cannot be cut from {longest} s; choose 1 to {longest} seconds.")
    positions = model.config.max_source_positions * seconds // longest
    shortened = type(model)(type(model.config)(**{**model.config.to_dict(), "max_source_positions": positions}))
    state = model.state_dict()
    shortened.load_state_dict({**state, POSITIONS: state[POSITIONS][:positions]})
    shortened.generation_config = model.generation_config
    kept = {name: features[name] for name in ("feature_size", "sampling_rate", "hop_length", "n_fft")}
    with staged_folder(out, overwrite) as folder:
        shortened.save_pretrained(folder)
        extractor_class(chunk_length=seconds, **kept).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(folder)
    return Path(out)
