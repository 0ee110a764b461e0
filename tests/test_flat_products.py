"""Products of rows: the same function with the names of before, and only where a bias is to be taken in."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgefold.exporters.flat_products import flatten_products

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
two_layers (float[batch, n, 4] x) => (float[batch, n, 4] y)
<float[4, 3] w1 = {1, -2, 3, 4, 5, -6, 7, 8, 9, -1, 2, 3}, float[3] b1 = {1, -2, 3}, float[3] other = {1, 0, 2},
 float[3, 4] w2 = {3, 1, -4, 1, 5, 9, 2, -6, 5, 3, 5, 8}, float[4] b2 = {4, 3, 2, 1}>
{
    first = MatMul(x, w1)
    hidden = Add(first, b1)
    active = Gelu(hidden)
    second = MatMul(active, w2)
    y = Add(b2, second)
}"""


def build(*changes: tuple[str, str]) -> onnx.ModelProto:
    text = GRAPH
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    for node in model.graph.node:
        node.name = f"node_{node.output[0]}"
    return model


def flatten(before: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    model = onnx_ir.from_proto(before)
    count = flatten_products(model)
    return onnx_ir.to_proto(model), count


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, x: NDArray[Any]) -> list[NDArray[Any]]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: list[NDArray[Any]] = session.run(None, {"x": x})
    return found


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ((), {"Flatten": 1, "Gelu": 1, "Reshape": 1, "Shape": 1, "Concat": 1}),
        ((("Gelu(hidden)", "Identity(hidden)"),), {"Flatten": 2, "Identity": 1, "Reshape": 2, "Shape": 1, "Concat": 2}),
        (
            (("active = Gelu(hidden)", "unread = Relu(hidden)"), ("MatMul(active", "MatMul(hidden")),
            {"Flatten": 1, "Reshape": 1, "Shape": 1, "Concat": 1},
        ),
        (
            (("=> (float[batch, n, 4] y)", "=> (float[batch, n, 4] y, float[batch, n, 3] hidden)"),),
            {"Flatten": 1, "Gelu": 1, "Reshape": 2, "Shape": 1, "Concat": 2},
        ),
    ],
    ids=["an activation between", "something else between", "nothing between", "read elsewhere, too"],
)
def test_the_same_function_of_rows(changes: tuple[tuple[str, str], ...], wanted: dict[str, int]) -> None:
    before = build(*changes)
    after, count = flatten(before)
    assert count == 2
    assert kinds(after) == {"Gemm": 2, **wanted}
    assert {"node_first", "node_second"} < {node.name for node in after.graph.node if node.op_type == "Gemm"} | {""}
    assert [value.name for value in after.graph.output] == [value.name for value in before.graph.output]
    onnx.checker.check_model(after, full_check=True)
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    for found, expected in zip(run(after, x), run(before, x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(
    "change",
    [
        ("float[batch, n, 4]", "float[n, 4]"),  # rows already
        ("float[batch, n, 4] x", "float x"),  # of any shape
        ("Add(first, b1)", "Mul(first, b1)"),
        ("hidden = Add(first, b1)", "again = Neg(first)\n    hidden = Add(first, b1)"),  # read twice
        ("Add(first, b1)", "Add(first, first)"),
    ],
)
def test_what_is_no_product_with_a_bias_is_left_alone(change: tuple[str, str]) -> None:
    before = build(change, ("y = Add(b2, second)", "y = Sub(second, b2)"))
    model = onnx_ir.from_proto(before)
    expected = onnx_ir.to_proto(model)
    assert flatten_products(model) == 0
    assert onnx_ir.to_proto(model) == expected


def test_a_width_makes_no_name_that_another_value_has() -> None:
    """torch calls its values linear, linear_1, ...; the shape of one that is 3 wide is not linear_3."""
    model, count = flatten(build(("hidden", "x_3"), ("active", "x_4")))
    assert count == 2
    names = [name for node in model.graph.node for name in node.output] + [t.name for t in model.graph.initializer]
    assert len(set(names)) == len(names)
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    np.testing.assert_allclose(run(model, x)[0], run(build(), x)[0], rtol=1e-5)
