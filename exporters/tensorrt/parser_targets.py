"""Which TensorRT a graph is meant for, "tensorrt-8.6" or "tensorrt-rtx", and what that parser is documented to read.

A graph that is checked for another machine's TensorRT has no library to ask, so these are tables of versions; a build
asks the library itself. Sources: onnx-tensorrt, docs/operators.md of 8.5 and 10.15 and docs/Changelog.md; TensorRT-RTX
1.7.1.116 as it was seen to behave.
"""

import re
from dataclasses import dataclass

from edgefold.errors import InputError

Version = tuple[int, int]
FLOOR: Version = (8, 5)
RTX_LIKE: Version = (10, 15)
"""TensorRT-RTX counts its own versions; its parser reads what that of this TensorRT reads."""
OPSETS: dict[Version, int] = {(8, 5): 17, (10, 0): 20, (10, 7): 22, (10, 15): 24, (11, 0): 25}
"""From this version on -> the newest opset that its documentation names."""
OLDEST_OPSET = 9
IR_VERSIONS: dict[Version, int] = {(8, 5): 8, (10, 0): 9, (10, 6): 10}
"""From this version on -> the IR of the ONNX release that the parser was built with (1.12, 1.14, 1.17)."""


@dataclass(frozen=True)
class ParserTarget:
    """One version of TensorRT's ONNX parser."""

    name: str
    version: Version
    is_rtx: bool = False

    @property
    def opset(self) -> int:
        return OPSETS[max(since for since in OPSETS if since <= self.version)]

    @property
    def ir_version(self) -> int:
        return IR_VERSIONS[max(since for since in IR_VERSIONS if since <= self.version)]


def read_target(name: str) -> ParserTarget:
    """ "tensorrt-8.6", "tensorrt-10", "tensorrt-11.4", "tensorrt-rtx".

    Raises:
        InputError: another name, or a version below 8.5.
    """
    if re.fullmatch(r"tensorrt-rtx(-\d+(\.\d+)*)?", name):
        return ParserTarget(name, RTX_LIKE, is_rtx=True)
    match = re.fullmatch(r"tensorrt-(\d+)(?:\.(\d+))?(?:\.\d+)*", name)
    version = (int(match[1]), int(match[2] or 0)) if match else None
    if version is None or version < FLOOR:
        raise InputError(
            f"There is no TensorRT {name!r} to check for; give tensorrt-8.5 or later (as in tensorrt-8.6, "
            "tensorrt-10.3, tensorrt-11.4), or tensorrt-rtx."
        )
    return ParserTarget(name, version)
