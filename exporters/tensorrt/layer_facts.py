"""What became of the layers: in which precision each runs, and where sparse kernels were chosen.

An engine's inspector lists its layers as JSON; the builder's log tells of sparsity in one of two forms (TensorRT 8 and
10). What neither tells is counted as "unknown": inside a fused region TensorRT tells no precision.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

PRECISIONS = {
    "fp8": ("fp8",),
    "int4": ("int4",),
    "int8": ("int8", "i8i8"),
    "bf16": ("bf16", "bfloat16"),
    "fp16": ("fp16", "half", "f16f16"),
    "fp32": ("fp32", "float"),
    "integer": ("int32", "int64", "bool"),
}
"""Precision -> the words for it in formats, weights and kernel names; the narrowest is looked for first."""
FOUND = (r"\(Sparsity\) Found (\d+) layer", r"\(Sparsity\) Layers eligible for sparse math:(.*)")
CHOSEN = (
    r"\(Sparsity\) Chose (\d+) layer",
    r"\(Sparsity\) TRT inference plan picked sparse .*for layers:(.*)",
)


def read_layers(inspected: str) -> dict[str, Any]:
    """The JSON of an engine inspector -> {"total": layers, "precisions": {precision: layers}, "sparse": layers}."""
    layers = json.loads(inspected)["Layers"]
    counts = Counter(_precision(layer) for layer in layers)
    sparse = sum("sparse" in str(_get(layer, "TacticName")).lower() for layer in layers)
    return {"total": len(layers), "precisions": dict(counts.most_common()), "sparse": sparse}


def read_sparsity(log: str) -> dict[str, int] | None:
    """{"eligible": layers whose weights are 2:4, "chosen": those on sparse kernels}; None where it is silent."""
    eligible, chosen = (_count(patterns, log) for patterns in (FOUND, CHOSEN))
    return None if eligible is None else {"eligible": eligible, "chosen": chosen or 0}


def _precision(layer: Any) -> str:
    """Of its weights where it has some, else of its kernel, else of what it gives, else of what it takes."""
    weights = _get(layer, "Weights")
    told = [weights.get("Type") if isinstance(weights, Mapping) else None, _get(layer, "TacticName")]
    for end in ("Outputs", "Inputs"):
        told += [_get(value, "Format/Datatype") or _get(value, "Datatype") for value in _get(layer, end) or ()]
    for text in told:
        words = str(text).lower()
        for precision, names in PRECISIONS.items():
            if any(name in words for name in names):
                return precision
    return "unknown"


def _get(thing: Any, name: str) -> Any:
    """A field of a layer; one built without details is but a name."""
    return thing.get(name) if isinstance(thing, Mapping) else None


def _count(patterns: tuple[str, str], log: str) -> int | None:
    number, names = (re.search(pattern, log) for pattern in patterns)
    if number:
        return int(number[1])
    return len([name for name in names[1].split(",") if name.strip()]) if names else None
