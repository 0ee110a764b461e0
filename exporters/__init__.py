"""Exporters: a folded student becomes an artifact that a runtime opens."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgefold.exporters.artifact_quantization import quantize_onnx
    from edgefold.exporters.generators import export_generator
    from edgefold.exporters.onnx import export_onnx
    from edgefold.exporters.sensitivity import measure_sensitivity, most_sensitive
    from edgefold.exporters.tensorrt.engines import build_engine
    from edgefold.exporters.tensorrt.linting import lint_onnx
    from edgefold.exporters.transformers_js_layout import write_transformers_js

_HOME = {
    "build_engine": "tensorrt.engines",
    "export_generator": "generators",
    "export_onnx": "onnx",
    "lint_onnx": "tensorrt.linting",
    "measure_sensitivity": "sensitivity",
    "most_sensitive": "sensitivity",
    "quantize_onnx": "artifact_quantization",
    "write_transformers_js": "transformers_js_layout",
}
"""Public names and the module each lives in; loaded on first use (PEP 562)."""

__all__ = [
    "build_engine",
    "export_generator",
    "export_onnx",
    "lint_onnx",
    "measure_sensitivity",
    "most_sensitive",
    "quantize_onnx",
    "write_transformers_js",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'edgefold.exporters' has no attribute {name!r}")
    return getattr(import_module(f"edgefold.exporters.{_HOME[name]}"), name)
