"""What a failure says to the person at the terminal: one paragraph, and an exit status."""

import signal
from dataclasses import dataclass

from edgefold.cli.stopping import Stopped
from edgefold.errors import EdgefoldError, InputError

INSTALL = {
    "torch": "edgefold[train]",
    "transformers": "edgefold[train]",
    "safetensors": "edgefold[train]",
    "onnx": "edgefold[export]",
    "onnxscript": "edgefold[export]",
    "onnxruntime": "edgefold[onnxruntime]",
    "matplotlib": "edgefold[report]",
    "openvino": "edgefold[openvino]",
    "nncf": "edgefold[openvino-int8]",
    "mlperf_loadgen": "edgefold[loadgen]",
}
"""The extra that brings a package."""


@dataclass(frozen=True)
class Failure:
    kind: str
    message: str
    exit_code: int


def describe_failure(error: BaseException) -> Failure:
    """Map an exception to its paragraph and exit status; what is no error of ours is named as it came."""
    kind = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        status = 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
        return Failure(
            kind,
            "Interrupted; no half-written output stands but the folder of a demo. A stopped `compress` goes on with "
            "--resume, a `search` that has begun its trials with the same --out.",
            status,
        )
    if isinstance(error, EdgefoldError):
        return Failure(kind, _one_paragraph(error), error.exit_code)
    package = (error.name or "").split(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in INSTALL:
        message = f"This command needs {package}, which is not installed; do: pip install '{INSTALL[package]}'"
        return Failure(kind, message, InputError.exit_code)
    if isinstance(error, MemoryError):
        return Failure(kind, "The machine has run out of memory; take a smaller batch or a shorter sequence.", 1)
    return Failure(kind, f"The command failed: {kind}: {_one_paragraph(error)} (--debug shows the traceback)", 1)


def _one_paragraph(error: BaseException, limit: int = 2000) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if len(text) <= limit else f"{text[:limit]}..."
