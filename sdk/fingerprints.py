"""Fingerprints: the SHA-256 of a model and of a dataset's content, the same wherever and whenever taken."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgefold.errors import InputError

PROVENANCE = ("_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
"""Fields of a configuration that say where a model is from, not what it computes."""


def fingerprint_model(module: nn.Module) -> str:
    """Of the names, types, shapes and values of everything in the state_dict, and of a Hugging Face configuration.

    Weights alone do not tell, say, how many heads share them.
    """
    digest = hashlib.sha256()
    configuration: Any = getattr(module, "config", None)
    fields = configuration.to_dict() if hasattr(configuration, "to_dict") else {}
    _add(digest, json.dumps({k: v for k, v in fields.items() if k not in PROVENANCE}, sort_keys=True, default=repr))
    for name, tensor in sorted(module.state_dict().items()):
        _add(digest, name)
        _add(digest, tensor)
    return digest.hexdigest()


def fingerprint_data(examples: Iterable[Mapping[str, Any]], left_out: Collection[str] = ()) -> str:
    """Of every example in its order, but for some of its fields.

    Raises:
        InputError: a field is neither a tensor, an array, a number, text, nor made of such.
    """
    digest = hashlib.sha256()
    for example in examples:
        _add(digest, {name: value for name, value in example.items() if name not in left_out})
    return digest.hexdigest()


def _add(digest: Any, value: Any) -> None:
    """Each value with its type and size before it, so that no two different ones run together to the same bytes."""
    if isinstance(value, Mapping):
        _add_header(digest, "mapping", len(value))
        for name, item in sorted(value.items()):
            _add(digest, str(name))
            _add(digest, item)
    elif isinstance(value, Tensor):
        _add_header(digest, value.dtype, tuple(value.shape))
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    elif isinstance(value, np.ndarray | np.generic):
        array = np.ascontiguousarray(value)
        _add_header(digest, array.dtype, array.shape)
        digest.update(array.tobytes())
    elif isinstance(value, list | tuple) and all(type(item) is int for item in value):
        _add_header(digest, "numbers", len(value))
        digest.update(repr(list(value)).encode())
    elif isinstance(value, list | tuple):
        _add_header(digest, "list", len(value))
        for item in value:
            _add(digest, item)
    elif isinstance(value, str | int | float | bool | bytes | None):
        text = repr(value).encode()
        _add_header(digest, type(value).__name__, len(text))
        digest.update(text)
    else:
        raise InputError(
            f"The data hold a {type(value).__name__}, whose content has no fingerprint; give tensors, arrays, numbers "
            "or text, or train without a teacher cache on disk."
        )


def _add_header(digest: Any, kind: object, size: object) -> None:
    digest.update(f"{kind} {size};".encode())
