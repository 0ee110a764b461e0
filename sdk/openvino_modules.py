"""OpenVINO's packages, imported without what would report their use.

`import openvino` (2026.4) and `import nncf` (3.4) tell a server of their makers' that they were imported, and what was
quantized, unless they find no package `openvino_telemetry`. To what is imported here there is none.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """The package `openvino`.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    with _untold():
        return import_module("openvino")


def import_nncf() -> Any:
    """The package `nncf`; loggers made after it are of the class that they were of before.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    loggers = logging.getLoggerClass()
    try:
        with _untold():
            return import_module("nncf")
    finally:
        logging.setLoggerClass(loggers)


def can_quantize() -> bool:
    """Whether both are installed; neither is imported."""
    return all(find_spec(name) is not None for name in ("openvino", "nncf"))


@contextmanager
def _untold() -> Iterator[None]:
    """None in sys.modules is a package that cannot be imported; one that was imported before stays."""
    is_hidden = TELEMETRY not in sys.modules
    if is_hidden:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if is_hidden:
            del sys.modules[TELEMETRY]
