"""The packages that made an artifact, and their versions."""

from importlib.metadata import version

import onnxruntime

PACKAGES = ("edgefold", "torch", "onnx")


def exporting_versions() -> dict[str, str]:
    """Of edgefold, torch, onnx and ONNX Runtime, which bears its own name in one of its builds alone."""
    return {**{name: version(name) for name in PACKAGES}, "onnxruntime": onnxruntime.__version__}
