"""Which execution providers of ONNX Runtime really compute: a product of two by two, on each of a GPU's."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

from edgefold.errors import DeviceError
from edgefold.runtimes.agent.onnx_models import GPU_PROVIDERS, find_provider, first_line, open_onnx
from edgefold.runtimes.agent.refusals import Refused
from edgefold.runtimes.host_errors import error_of
from edgefold.runtimes.onnxruntime_session import TENSORRT
from edgefold.tensorrt_modules import import_tensorrt

PRODUCT = (
    b'\x08\x07:@\n\x11\n\x01x\n\x01x\x12\x01y"\x06MatMul\x12\x01gZ\x13\n\x01x\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n'
    b"\x02\x08\x02b\x13\n\x01y\x12\x0e\n\x0c\x08\x01\x12\x08\n\x02\x08\x02\n\x02\x08\x02B\x04\n\x00\x10\r"
)
"""y = x x, float32, opset 13."""


def probe_providers() -> Iterator[tuple[str, str]]:
    """The name of each of a GPU's providers in this onnxruntime, and why it cannot be used; "" where it can."""
    available = onnxruntime.get_available_providers()
    for choice, name in GPU_PROVIDERS.items():
        if name in available:
            yield name, _probe(choice)


def check_gpu() -> None:
    """Whether ONNX Runtime computes on this machine's NVIDIA GPU.

    Raises:
        DeviceError: it was built without CUDA, or cannot use it.
    """
    try:
        find_provider("cuda")
    except Refused as refused:
        raise error_of(refused.kind, refused.message) from None
    if why := _probe("cuda"):
        raise DeviceError(f"ONNX Runtime cannot use this machine's GPU: {why} `edgefold doctor` says what to do.")


def _probe(choice: str) -> str:
    with TemporaryDirectory() as folder:
        path = Path(folder, "product.onnx")
        path.write_bytes(PRODUCT)
        return _try(str(path), choice)


def _try(path: str, choice: str) -> str:
    x = np.array([[1, 2], [3, 4]], np.float32)
    try:
        if choice == "tensorrt":
            with contextlib.suppress(DeviceError):  # the system may have the libraries
                import_tensorrt(TENSORRT)
        session = open_onnx(path, "a product", device="cuda", provider=choice, threads=1, spinning=False)
        (found,) = session.run(None, {"x": x})
    except Refused as refused:
        return str(refused)
    except Exception as error:  # onnxruntime's own classes share no base
        return first_line(error)
    return "" if np.allclose(found, x @ x, rtol=1e-2) else f"it computes {found.tolist()} for {(x @ x).tolist()}"
