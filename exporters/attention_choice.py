"""Where attention is exported as the one operator of opset 23: asked for by that opset, or in int8 for x86."""

import onnxruntime

from edgefold.exporters.fused_attention import ATTENTION_OPSET
from edgefold.exporters.targets import find_target

OLDEST_READER = (1, 24)
"""ONNX Runtime 1.23 has its kernel, but none of opset 23 for QuantizeLinear."""
PRECISIONS = ("fp32", "int8")
"""Those that are for this kernel; weights alone are quantized for generation, whose attention has a cache."""


def fuses_attention(precision: str, target: str, opset: int | None) -> bool:
    """Whether an artifact of that precision for that target has the operator, where its attention is such.

    Args:
        opset: the one that was asked for; if none was, the target's in int8, where this machine's runtime reads it.
    """
    found = find_target(target)
    if found.is_tensorrt or found.is_openvino or precision not in PRECISIONS:
        return False
    if opset is not None:
        return opset >= ATTENTION_OPSET
    return precision == "int8" and found.int8_opset >= ATTENTION_OPSET and _runtime() >= OLDEST_READER


def _runtime() -> tuple[int, ...]:
    """ONNX Runtime's version, without the patch."""
    return tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
