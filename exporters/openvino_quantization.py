"""int8 for OpenVINO, by NNCF: activations as u8 with a zero point, weights per output channel, look-up tables too.

OpenVINO's kernels take an input with a zero point at no cost, so that the ends of each range are its own; attention is
smoothed and biases are corrected on the calibration data (SmoothQuant: Xiao et al., 2023). ONNX Runtime opens the same
file, and is slower with it than with fp32.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnx

from edgefold.errors import InputError
from edgefold.exporters.calibration_batches import Batch, as_arrays
from edgefold.exporters.model_files import load_model
from edgefold.openvino_modules import import_nncf

nncf = import_nncf()


def quantize_for_openvino(path: Path, out: Path, batches: Sequence[Batch], left_out: Sequence[str] = ()) -> None:
    """Quantize the model at `path` to int8, as `out`.

    Raises:
        InputError: no batches, one that the model cannot read, or a model that NNCF does not take.
    """
    model = load_model(path)
    arrays = as_arrays(batches, model)
    is_transformer = has_attention(model)
    try:
        with _quiet():
            quantized = nncf.quantize(
                model,
                nncf.Dataset(arrays),
                subset_size=len(arrays),
                preset=nncf.QuantizationPreset.MIXED,
                model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
                ignored_scope=nncf.IgnoredScope(names=list(left_out)) if left_out else None,
            )
    except Exception as error:  # nncf, onnx and onnxruntime each raise their own
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(f"NNCF does not quantize {path.name}: {said}; use another target, or fp32.") from error
    onnx.save(quantized, out)


def has_attention(model: onnx.ModelProto) -> bool:
    """Whether a product of two values stands in the graph; without telling NNCF so, int8 ruins a transformer."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return any(node.op_type == "MatMul" and not constants & set(node.input) for node in model.graph.node)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, and without what NNCF logs below errors."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
