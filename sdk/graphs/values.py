"""Arguments of a graph's calls as JSON, and back: nodes, numbers, lists, types, devices, layouts, slices."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx import Node

from edgefold.errors import InputError

TORCH_VALUES: dict[str, tuple[type, ...]] = {
    "dtype": (torch.dtype,),
    "memory_format": (torch.memory_format,),
    "layout": (torch.layout,),
}
"""Constants of torch that are written by name, such as {"dtype": "float32"}."""
DEVICES = ("cpu", "cuda", "mps", "meta")


def encode_value(value: Any) -> Any:
    """A JSON value: plain ones as they are, others as an object of one key that tells their kind.

    Raises:
        InputError: a kind of value that no graph file holds.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [encode_value(item) for item in value]}
    if isinstance(value, list):
        return [encode_value(item) for item in value]
    if isinstance(value, Mapping):
        return {"dict": {_text(key): encode_value(item) for key, item in value.items() if item is not None}}
    if isinstance(value, slice):
        return {"slice": [encode_value(item) for item in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.device):
        return {"device": value.type}
    for kind, types in TORCH_VALUES.items():
        if isinstance(value, types):
            return {kind: str(value).removeprefix("torch.")}
    raise InputError(
        f"The traced graph holds {value!r} of type {type(value).__name__}, which a graph file cannot hold; save "
        "without inputs= and open with load_student(folder, architecture=...)."
    )


def decode_value(value: Any, nodes: Mapping[str, Node]) -> Any:
    """What `encode_value` was given; `nodes` are those built so far.

    Raises:
        InputError: nothing that `encode_value` writes.
    """
    if isinstance(value, list):
        return [decode_value(item, nodes) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((kind, content),) = value.items()
        decode = _DECODERS.get(kind)
        if decode is not None:
            try:
                return decode(content, nodes)
            except (KeyError, ValueError, TypeError, AttributeError):
                pass
    raise InputError(f"The graph file holds {str(value)[:80]}, which is no value of a graph; make the student again.")


def _text(key: object) -> str:
    if isinstance(key, str):
        return key
    raise InputError(f"The model returns a dict with the key {key!r}; a graph file needs keys that are text.")


def _torch_value(kind: str) -> Callable[[Any, Mapping[str, Node]], Any]:
    def decode(content: Any, _: Mapping[str, Node]) -> Any:
        found = getattr(torch, content)
        if not isinstance(found, TORCH_VALUES[kind]):
            raise TypeError(content)
        return found

    return decode


def _device(content: Any, _: Mapping[str, Node]) -> torch.device:
    if content not in DEVICES:
        raise ValueError(content)
    return torch.device(content)


def _non_finite(content: Any, _: Mapping[str, Node]) -> float:
    if content not in ("inf", "-inf", "nan"):
        raise ValueError(content)
    return float(content)


_DECODERS: dict[str, Callable[[Any, Mapping[str, Node]], Any]] = {
    "node": lambda content, nodes: nodes[content],
    "float": _non_finite,
    "tuple": lambda content, nodes: tuple(decode_value(item, nodes) for item in content),
    "dict": lambda content, nodes: {str(key): decode_value(item, nodes) for key, item in content.items()},
    "slice": lambda content, nodes: slice(*(decode_value(item, nodes) for item in content)),
    "device": _device,
    **{kind: _torch_value(kind) for kind in TORCH_VALUES},
}
