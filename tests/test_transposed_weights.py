"""Weights are stored as they are read: the same function, and products of shared layers have constant operands."""

from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.exporters.transposed_weights import store_transposed

TWICE = """<ir_version: 10, opset_import: ["" : 20]>
twice (float[batch, 3] x) => (float[batch, 3] y) <float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}>
{
    first = Transpose <perm = [1, 0]> (w)
    second = Transpose <perm = [1, 0]> (w)
    h = MatMul(x, first)
    z = MatMul(h, second)
    LAST
}"""


class Shared(nn.Module):
    """Two layers that are one."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(x)))


def run(model: onnx_ir.Model) -> Any:
    data = onnx_ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(data).run(None, {"x": np.eye(3, dtype=np.float32)})[0]


@pytest.mark.parametrize(
    ("last", "changed"),
    [
        ("y = Identity(z)", 1),
        ("y = Add(z, w)", 0),
        ("third = Transpose <perm = [0, 1]> (w)\n    y = Add(z, third)", 0),
    ],
    ids=["of all its readers", "read as it is, too", "read in two orders"],
)
def test_it_is_stored_as_its_readers_want_it(last: str, changed: int) -> None:
    model = onnx_ir.from_onnx_text(TWICE.replace("LAST", last))
    before = run(model)
    assert store_transposed(model) == changed
    np.testing.assert_array_equal(run(model), before)
    assert sum(node.op_type == "Transpose" for node in model.graph) == (0 if changed else 2 + last.count("perm"))
    assert len(model.graph.initializers) == 1


def test_layers_that_share_their_weights_become_int8(tmp_path: Any) -> None:
    torch.manual_seed(0)
    batch = {"x": torch.randn(8, 5, 16)}
    fp32 = export_onnx(Shared().eval(), batch, tmp_path / "fp32")
    for method in ("dynamic", "static"):
        int8 = quantize_onnx(fp32, tmp_path / method, quantization=method, calibration=[batch])
        stored = [tensor.dtype for tensor in onnx_ir.load(int8.model_path).graph.initializers.values()]
        assert not [value for value in onnx_ir.load(int8.model_path).graph if value.op_type in ("Transpose",)]
        assert onnx_ir.DataType.INT8 in stored
