"""Which TensorRT is installed: found by importing it, under whichever of its names it has."""

import os
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from edgefold.errors import DeviceError

VARIABLE = "EDGEFOLD_TENSORRT"
"""Environment variable that names the module to use instead."""
BUILDERS = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings", "tensorrt_bindings")
"""Modules that build and run; the bindings stand alone where the package that renames them is left out."""
RUNNERS = (*BUILDERS, "tensorrt_lean", "tensorrt_dispatch")
"""Modules that run an engine; the last two build none."""
ADVICE = (
    "on a Jetson: apt install python3-libnvinfer, and a virtual environment made with --system-site-packages; on a PC "
    "or server: pip install tensorrt; for GeForce and RTX GPUs: pip install 'edgefold[tensorrt-rtx]'"
)


def import_tensorrt(names: Sequence[str] = BUILDERS) -> ModuleType:
    """The first of those modules that can be imported and is a TensorRT; $EDGEFOLD_TENSORRT alone where it is set.

    Raises:
        DeviceError: none can; what each said.
    """
    chosen = os.environ.get(VARIABLE)
    said = []
    for name in (chosen,) if chosen else names:
        try:
            module = import_module(name)
        except (ImportError, OSError) as error:  # OSError: a library of its own is missing
            said.append(f"{name}: {' '.join(str(error).split())}")
            continue
        if hasattr(module, "Runtime"):
            return module
        said.append(f"{name}: has no Runtime, so it is no TensorRT")
    raise DeviceError(f"No TensorRT can be imported here ({'; '.join(said)}). Install one {ADVICE}.")


def check_installed() -> None:
    """Refuse early, importing nothing, where there is no TensorRT to build with.

    Raises:
        DeviceError: none of its modules is there.
    """
    names = (os.environ[VARIABLE],) if VARIABLE in os.environ else BUILDERS
    if not any(find_spec(name) for name in names):
        raise DeviceError(f"There is no TensorRT here (looked for {', '.join(names)}). Install one {ADVICE}.")


def is_rtx(module: ModuleType) -> bool:
    """Whether it is TensorRT-RTX, whose engines are finished on the device."""
    return "rtx" in module.__name__


def describe(module: ModuleType) -> str:
    """ "TensorRT 10.3.0" or "TensorRT-RTX 1.7.1.116"."""
    return f"TensorRT{'-RTX' if is_rtx(module) else ''} {module.__version__}"
