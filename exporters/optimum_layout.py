"""The folder layout that optimum's ORTModelFor… classes open: config.json and tokenizer files beside model.onnx."""

import copy
import shutil
from pathlib import Path
from typing import Any, cast

from torch import nn

from edgefold.errors import InputError
from edgefold.exporters.older_readers import suit_older_readers

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "normalizer.json",
    "preprocessor_config.json",
    "processor_config.json",
)


def write_optimum_layout(folder: Path, model: nn.Module, tokenizer: Any = None, keeps_cache: bool = False) -> None:
    """Add the configuration of a Hugging Face model, and its tokenizer if there is one.

    Args:
        tokenizer: anything with `save_pretrained`, or a folder that holds tokenizer files.
        keeps_cache: whether the graphs have one, so that how text is generated is to be said as well.

    Raises:
        InputError: the tokenizer is neither.
    """
    config: Any = copy.deepcopy(getattr(model, "config", None))
    if config is not None and hasattr(config, "save_pretrained"):
        if keeps_cache:
            config.use_cache = True
        if not config.architectures:
            config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
    if keeps_cache and getattr(model, "generation_config", None) is not None:
        cast(Any, model).generation_config.save_pretrained(folder)
    if tokenizer is not None:
        _write_tokenizer(folder, tokenizer)
        suit_older_readers(folder)


def _write_tokenizer(folder: Path, tokenizer: Any) -> None:
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
        return
    source = Path(tokenizer)
    found = [source / name for name in TOKENIZER_FILES if (source / name).is_file()]
    if not found:
        raise InputError(f"{source} holds none of {', '.join(TOKENIZER_FILES[:5])}, …; give a tokenizer or its folder.")
    for path in found:
        shutil.copyfile(path, folder / path.name)
