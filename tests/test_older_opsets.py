"""Opset 16: a LayerNormalization that is taken apart computes what it did."""

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from edgefold.errors import InputError
from edgefold.exporters.older_opsets import lower_opset

NORM = """
<ir_version: 8, opset_import: ["" : %d]>
norm (float[batch, 3, 4] x, float[%s] scale, float[%s] bias) => (float[batch, 3, 4] y)
{
    y = LayerNormalization <axis = %d, epsilon = 0.5> (x, scale%s)
}
"""


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {value.name: feeds[value.name] for value in session.get_inputs()})
    return np.asarray(output)


@pytest.mark.parametrize(("axis", "shape"), [(-1, (4,)), (2, (4,)), (1, (3, 4)), (-2, (3, 4))])
@pytest.mark.parametrize("bias", ["", ", bias"])
def test_a_layer_norm_is_the_same_in_parts(axis: int, shape: tuple[int, ...], bias: str) -> None:
    sizes = ", ".join(map(str, shape))
    proto = onnx.parser.parse_model(NORM % (17, sizes, sizes, axis, bias))
    model = onnx_ir.from_proto(proto)
    lower_opset(model)
    lowered = onnx_ir.to_proto(model)
    onnx.checker.check_model(lowered, full_check=True)
    assert [(entry.domain, entry.version) for entry in lowered.opset_import] == [("", 16)]
    assert "LayerNormalization" not in {node.op_type for node in lowered.graph.node}
    generator = np.random.default_rng(0)
    feeds = {name: generator.normal(size=shape).astype(np.float32) for name in ("scale", "bias")}
    feeds["x"] = generator.normal(size=(2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(lowered, feeds), run(proto, feeds), rtol=0, atol=1e-6)


def test_other_opsets_are_refused() -> None:
    model = onnx_ir.from_proto(onnx.parser.parse_model(NORM % (18, "4", "4", -1, "")))
    with pytest.raises(InputError, match="The exporter wrote opset 18; only 17 can be taken down to 16"):
        lower_opset(model)


def test_other_operators_of_opset_17_are_refused() -> None:
    text = "w (int64 n) => (float[m] y) { y = HannWindow (n) }"
    model = onnx_ir.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}'))
    with pytest.raises(InputError, match="is a HannWindow, which opset 16 does not have; ask for opset=17"):
        lower_opset(model)
