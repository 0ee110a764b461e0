"""A tiny Whisper, and the same in the files of CTranslate2, written after the description of their format."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

SPECIAL = ("<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>")
LETTERS = [*"abcdefghijklmnopqrstuvwxyz.,", "Ġ"]
END, START, NO_TIMES = range(len(LETTERS), len(LETTERS) + 3)
SETTINGS = {"suppress_ids": [-1, 3, 4], "suppress_ids_begin": [END], "alignment_heads": [[1, 0]]}
ARRAY_TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def make_whisper(seconds: int = 1) -> Any:
    """Two layers on each side, weights that float16 holds exactly."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    sides = ("encoder", "decoder")
    sizes: dict[str, int] = {
        **{f"{side}_layers": 2 for side in sides},
        **{f"{side}_attention_heads": 4 for side in sides},
        "encoder_ffn_dim": 40,
        "decoder_ffn_dim": 48,
    }
    tokens = {"pad_token_id": END, "bos_token_id": START, "eos_token_id": END, "decoder_start_token_id": START}
    config = WhisperConfig(
        vocab_size=NO_TIMES + 1,
        d_model=24,
        num_mel_bins=8,
        max_source_positions=50 * seconds,
        max_target_positions=32,
        **sizes,
        **tokens,
    )
    model = WhisperForConditionalGeneration(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.half().float().eval()


def make_whisper_tokenizer() -> Any:
    """Letters, the byte for a blank, and the special tokens; a text stands between start, no times, and end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(LETTERS)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    names = [SPECIAL[1], SPECIAL[2], "$A", SPECIAL[0]]
    numbers = {token: END + i for i, token in enumerate(SPECIAL)}
    tokenizer.post_processor = processors.TemplateProcessing(single=names, special_tokens=list(numbers.items()))
    return tokenizer


def packed_arrays(model: Any) -> dict[str, np.ndarray]:
    """The weights by CTranslate2's names; queries, keys and values stacked, the keys' bias filled with zeros."""
    state = {name.removeprefix("model."): tensor.numpy() for name, tensor in model.state_dict().items()}
    arrays = {
        "decoder/activation": np.array(3, "int8"),
        "decoder/embeddings/weight": state["decoder.embed_tokens.weight"],
        **{f"encoder/{name}": state[f"encoder.{name.replace('/', '.')}"] for name in convolutions()},
    }
    for side, attentions in (("encoder", ("self",)), ("decoder", ("self", "encoder"))):
        arrays[f"{side}/num_heads"] = np.array(4, "int16")
        arrays[f"{side}/position_encodings/encodings"] = state[f"{side}.embed_positions.weight"]
        arrays |= norm(state, f"{side}.layer_norm", f"{side}/layer_norm")
        for layer in range(2):
            inner, outer = f"{side}.layers.{layer}.", f"{side}/layer_{layer}/"
            arrays |= norm(state, f"{inner}final_layer_norm", f"{outer}ffn/layer_norm")
            arrays |= linear(state, [f"{inner}fc1"], f"{outer}ffn/linear_0")
            arrays |= linear(state, [f"{inner}fc2"], f"{outer}ffn/linear_1")
            for kind in attentions:
                name = f"{outer}self_attention" if kind == "self" else f"{outer}attention"
                q, k, v, out = (f"{inner}{kind}_attn.{part}_proj" for part in ("q", "k", "v", "out"))
                stacks = [[q, k, v], [out]] if kind == "self" else [[q], [k, v], [out]]
                arrays |= norm(state, f"{inner}{kind}_attn_layer_norm", f"{name}/layer_norm")
                for number, stack in enumerate(stacks):
                    arrays |= linear(state, stack, f"{name}/linear_{number}")
    return {name: a.astype("float16") if a.dtype == np.float32 else a for name, a in arrays.items()}


def convolutions() -> list[str]:
    return [f"conv{number}/{leaf}" for number in (1, 2) for leaf in ("weight", "bias")]


def norm(state: dict[str, np.ndarray], source: str, target: str) -> dict[str, np.ndarray]:
    return {f"{target}/gamma": state[f"{source}.weight"], f"{target}/beta": state[f"{source}.bias"]}


def linear(state: dict[str, np.ndarray], sources: list[str], target: str) -> dict[str, np.ndarray]:
    weights = [state[f"{source}.weight"] for source in sources]
    biases = [state.get(f"{s}.bias", np.zeros(len(w), "float32")) for s, w in zip(sources, weights, strict=True)]
    return {f"{target}/weight": np.concatenate(weights), f"{target}/bias": np.concatenate(biases)}


def write_model(
    path: Path,
    arrays: dict[str, np.ndarray],
    aliases: Iterable[tuple[str, str]] = (),
    *,
    specification: str = "WhisperSpec",
    version: int = 6,
) -> None:
    """Version, specification, revision, variables, aliases."""

    def text(value: str) -> bytes:
        return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"

    content = struct.pack("<I", version) + text(specification) + struct.pack("<II", 3, len(arrays))
    for name, array in arrays.items():
        content += text(name) + struct.pack("<B", array.ndim) + struct.pack(f"<{array.ndim}I", *array.shape)
        content += struct.pack("<BI", ARRAY_TYPES[array.dtype.name], array.nbytes) + array.tobytes()
    pairs = list(aliases)
    content += struct.pack("<I", len(pairs)) + b"".join(text(alias) + text(name) for alias, name in pairs)
    path.write_bytes(content)


def write_packed_whisper(folder: Path, model: Any, **changed: np.ndarray) -> None:
    """model.bin, tokenizer.json and config.json, as they lie in a package; `changed` arrays replace the model's."""
    arrays = {**packed_arrays(model), **{name.replace("__", "/"): array for name, array in changed.items()}}
    write_model(folder / "model.bin", arrays, [("decoder/projection/weight", "decoder/embeddings/weight")])
    make_whisper_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(SETTINGS))
