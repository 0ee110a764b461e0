"""Calibration that the model cannot read is refused, and told what is wrong with which batch."""

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from edgefold.errors import InputError
from edgefold.exporters.calibration_batches import CalibrationBatches, as_arrays

TEXT = '<ir_version: 10, opset_import: ["" : 20]> a (float[n, 3] x, int64[n] k) => (float[n, 3] y) { y = Relu(x) }'
MODEL = onnx.parser.parse_model(TEXT)
GOOD = {"x": torch.ones(2, 3), "k": torch.zeros(2, dtype=torch.long)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(2, 4)}, r"batch 1: x is float32 of shape \(2, 4\); the model reads float32 of \(n, 3\)"),
        ({"x": torch.ones(3)}, r"batch 1: x is float32 of shape \(3,\); the model reads"),
        ({"x": torch.ones(2, 3).double()}, r"x is float64 of shape \(2, 3\); the model reads float32"),
        ({"k": torch.zeros(2, dtype=torch.int32)}, r"k is int32 of shape \(2,\); the model reads int64 of \(n\)"),
        ({"x": torch.full((2, 3), torch.nan)}, "batch 1: x holds NaN or infinity, from which no scale can be found"),
        ({"x": torch.full((2, 3), torch.inf)}, "batch 1: x holds NaN or infinity"),
        ({"x": torch.ones(0, 3)}, r"batch 1: x of shape \(0, 3\) is empty"),
    ],
)
def test_what_the_model_cannot_read_is_refused(change: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CalibrationBatches([GOOD, {**GOOD, **change}], MODEL)


def test_missing_inputs_and_batches_are_refused() -> None:
    with pytest.raises(InputError, match="at least one calibration batch; got none"):
        as_arrays([], MODEL)
    with pytest.raises(InputError, match="batch 0 has k and lacks x; give every input of the model"):
        as_arrays([{"k": GOOD["k"]}], MODEL)


def test_batches_come_in_turn_without_labels() -> None:
    reader = CalibrationBatches([{**GOOD, "labels": torch.ones(2)}, GOOD], MODEL)
    first, second, end = (reader.get_next() for _ in range(3))
    assert first is not None
    assert second is not None
    assert first.keys() == second.keys() == {"x", "k"}
    np.testing.assert_array_equal(first["x"], 1)
    assert end is None
