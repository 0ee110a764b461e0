"""Calibration batches as ONNX Runtime's quantizer reads them, each checked before it is run."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader
from torch import Tensor

from edgefold.errors import InputError

Batch = Mapping[str, Tensor]
Arrays = dict[str, NDArray[Any]]


class CalibrationBatches(CalibrationDataReader):  # type: ignore[misc]
    """The model's inputs alone of every batch.

    Raises:
        InputError: no batches, or the first that the model cannot read.
    """

    def __init__(self, batches: Sequence[Batch], model: onnx.ModelProto) -> None:
        self.arrays = as_arrays(batches, model)
        self._rest: Iterator[Arrays] = iter(self.arrays)

    def get_next(self) -> Arrays | None:
        return next(self._rest, None)


def as_arrays(batches: Sequence[Batch], model: onnx.ModelProto) -> list[Arrays]:
    """The model's inputs of every batch.

    Raises:
        InputError: no batches, or the first that the model cannot read: an input that is missing, of another type or
            shape, without rows, or with NaN or infinity.
    """
    if not batches:
        raise InputError("Static int8 needs at least one calibration batch; got none.")
    found = []
    for index, batch in enumerate(batches):
        if missing := [value.name for value in model.graph.input if value.name not in batch]:
            raise InputError(
                f"Calibration batch {index} has {', '.join(batch)} and lacks {', '.join(missing)}; "
                "give every input of the model."
            )
        arrays = {value.name: batch[value.name].cpu().numpy() for value in model.graph.input}
        for value in model.graph.input:
            _check(index, value, arrays[value.name])
        found.append(arrays)
    return found


def _check(index: int, value: onnx.ValueInfoProto, array: NDArray[Any]) -> None:
    wanted = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(wanted.elem_type)
    sizes: list[int | str] = [dim.dim_value or dim.dim_param for dim in wanted.shape.dim]
    fits = len(sizes) == array.ndim and all(
        isinstance(size, str) or size == found for size, found in zip(sizes, array.shape, strict=False)
    )
    if array.dtype != dtype or not fits:
        raise InputError(
            f"Calibration batch {index}: {value.name} is {array.dtype} of shape {array.shape}; the model reads {dtype} "
            f"of ({', '.join(map(str, sizes))})."
        )
    if not array.size:
        raise InputError(f"Calibration batch {index}: {value.name} of shape {array.shape} is empty; leave it out.")
    if not np.isfinite(array).all():
        raise InputError(
            f"Calibration batch {index}: {value.name} holds NaN or infinity, from which no scale can be found; look at "
            "what prepares the inputs."
        )
