"""Opening the tokenizer that lies beside a model or an artifact; needs transformers, but no torch."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from edgefold.errors import InputError


def open_tokenizer(folder: Path) -> Any:
    """The tokenizer beside a model.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    if not (folder / "tokenizer_config.json").is_file() and not (folder / "tokenizer.json").is_file():
        raise InputError(f"{folder} has no tokenizer; copy the tokenizer files of the model it came from into it.")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise InputError(f"The tokenizer in {folder} cannot be opened: {' '.join(str(error).split())}") from error
