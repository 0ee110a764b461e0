"""Precisions of an artifact, by the names that `precision` and `--precision` take."""

from typing import get_args

from edgefold.artifacts import Precision
from edgefold.errors import InputError
from edgefold.exporters.targets import find_target

PRECISIONS: tuple[str, ...] = get_args(Precision)
BITS = {"weight-int8": 8, "int4": 4}
"""Bits of those that quantize weights alone."""
MOST_DIVERGENCE = {"weight-int8": 0.05, "int4": 0.5}
"""Of the next token from fp32's, in nats, that their gates allow; SmolLM2-135M has 0.004 and 0.29."""


def check_precision(precision: str, target: str) -> None:
    """Refuse early an unknown precision or target, and weights alone in int8 or int4 for TensorRT.

    Raises:
        InputError: what came and what is allowed.
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r} is not known; choose one of {', '.join(PRECISIONS)}.")
    if find_target(target).is_tensorrt and precision in BITS:
        raise InputError(
            f"{target} does not read {precision}: its operator, MatMulNBits, is ONNX Runtime's own. Choose fp16, int8."
        )
