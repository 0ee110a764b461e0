"""Attention as one operator computes what its parts did, and what is anything else stays as it is."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from numpy.typing import NDArray
from tiny_graphs import decoder, encoder

from edgefold.exporters.fused_attention import fuse_attention

Arrays = dict[str, NDArray[Any]]
GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
attend (float[batch, n, 8] q, float[batch, m, 8] k, float[batch, m, 8] v, float[batch, 1, n, m] mask)
=> (float[batch, n, 8] y)
<int64[4] heads = {0, 0, 2, 4}, int64[3] whole = {0, 0, 8}, float scale = {0.4}, float[1] minus = {-0.4}>
{
    query = Reshape(q, heads)
    key = Reshape(k, heads)
    value = Reshape(v, heads)
    query_heads = Transpose <perm = [0, 2, 1, 3]> (query)
    key_heads = Transpose <perm = [0, 2, 3, 1]> (key)
    value_heads = Transpose <perm = [0, 2, 1, 3]> (value)
    product = MatMul(query_heads, key_heads)
    scaled = Mul(product, scale)
    scores = Add(scaled, mask)
    weights = Softmax <axis = -1> (scores)
    weighted = MatMul(weights, value_heads)
    joined = Transpose <perm = [0, 2, 1, 3]> (weighted)
    y = Reshape(joined, whole)
}"""
MASK = "float[batch, 1, n, m] mask"
SAME = {
    "as it is": [],
    "the mask first": [("Add(scaled, mask)", "Add(mask, scaled)")],
    "a divisor": [("Mul(product", "Div(product")],
    "no scale": [("Mul(product, scale)", "Identity(mask)"), ("Add(scaled", "Add(product")],
    "no mask": [("Add(scaled, mask)", "Identity(mask)"), ("(scores)", "(scaled)")],
    "a product alone": [("Mul(product, scale)", "Identity(mask)"), ("(scores)", "(product)")],
    "one mask for all": [(MASK, "float[n, m] mask")],
    "a mask of keys": [(MASK, "float[batch, 1, 1, m] mask")],
    "a mask of queries": [(MASK, "float[1, 2, n, 1] mask")],
    "a bias of heads": [(MASK, "float[1, 2, n, m] mask")],
    "keys transposed twice": [
        ("<perm = [0, 2, 3, 1]> (key)", "<perm = [0, 2, 1, 3]> (key)"),
        ("    product = ", "    turned = Transpose <perm = [0, 1, 3, 2]> (key_heads)\n    product = "),
        ("MatMul(query_heads, key_heads)", "MatMul(query_heads, turned)"),
    ],
}  # fmt: skip
OTHER = {
    "an older opset": [('"" : 20', '"" : 17')],
    "softmax over heads": [("axis = -1", "axis = 1")],
    "a negative scale": [("Mul(product, scale)", "Mul(product, minus)")],
    "a mask of three axes": [(MASK, "float[batch, n, m] mask")],
    "a mask of unknown size": [(MASK, "float[batch, 1, r, m] mask")],
    "a batch of another name": [("float[batch, m, 8] k", "float[b, m, 8] k")],
    "values of another length": [("float[batch, m, 8] v", "float[batch, l, 8] v")],
    "rotated queries": [
        ("    product = MatMul(query_heads", "    turned = Neg(query_heads)\n    product = MatMul(turned"),
    ],
    "values before keys": [("MatMul(weights, value_heads)", "MatMul(value_heads, weights)")],
    "weights handed out": [("=> (float[batch, n, 8] y)", "=> (float[batch, n, 8] y, float[batch, 2, n, m] weights)")],
    "scores read twice": [
        ("=> (float[batch, n, 8] y)", "=> (float[batch, n, 8] y, float[batch, 2, n, m] again)"),
        ("    y = Reshape", "    again = Neg(scores)\n    y = Reshape"),
    ],
    "heads of another order": [("= [0, 2, 1, 3]> (weighted)", "= [0, 1, 2, 3]> (weighted)")],
    "float64": [("float", "double")],
}  # fmt: skip


def build(changes: list[tuple[str, str]]) -> onnx.ModelProto:
    text = GRAPH
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))


def fuse(before: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    model = onnx_ir.from_proto(before)
    count = fuse_attention(model)
    return onnx_ir.to_proto(model), count


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, feeds: Arrays) -> list[NDArray[Any]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    wanted = {value.name for value in session.get_inputs()}
    found: list[NDArray[Any]] = session.run(None, {name: array for name, array in feeds.items() if name in wanted})
    return found


def feeds_of(model: onnx.ModelProto, **sizes: int) -> Arrays:
    """Random inputs of those sizes, some keys hidden but the first."""
    random = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        shape = [d.dim_value or sizes[d.dim_param] for d in value.type.tensor_type.shape.dim]
        feeds[value.name] = random.normal(size=shape).astype(np.float32)
    hidden = random.random(feeds["mask"].shape) < 0.4
    hidden[..., 0] = False
    feeds["mask"][hidden] = np.finfo(np.float32).min
    return feeds


@pytest.mark.parametrize("name", list(SAME))
@pytest.mark.parametrize(("batch", "n", "m"), [(1, 1, 1), (3, 5, 7), (2, 4, 4)])
def test_one_operator_computes_what_its_parts_did(name: str, batch: int, n: int, m: int) -> None:
    before = build(SAME[name])
    after, count = fuse(before)
    assert count == 1
    assert kinds(after)["Attention"] == 1
    assert not kinds(after) & Counter(["Softmax", "Transpose", "MatMul", "Reshape"])
    assert after.opset_import[0].version == 23
    assert [value.name for value in after.graph.output] == ["y"]
    onnx.checker.check_model(after, full_check=True)
    feeds = feeds_of(before, batch=batch, n=n, m=m)
    np.testing.assert_allclose(run(after, feeds)[0], run(before, feeds)[0], rtol=0, atol=1e-6)


def test_a_query_that_sees_no_key_changes_nothing_for_the_others() -> None:
    """It had the average of all values, and has whatever the kernel gives it: nothing sensible reads either."""
    before = build([])
    feeds = feeds_of(before, batch=2, n=3, m=4)
    feeds["mask"][:, :, 1] = np.finfo(np.float32).min
    expected, found = run(before, feeds)[0], run(fuse(before)[0], feeds)[0]
    np.testing.assert_allclose(found[:, [0, 2]], expected[:, [0, 2]], rtol=0, atol=1e-6)
    assert np.isfinite(found).all()


@pytest.mark.parametrize("name", list(OTHER))
def test_anything_else_stays_as_it_is(name: str) -> None:
    model = onnx_ir.from_proto(build(OTHER[name]))
    before = onnx_ir.to_proto(model)
    assert fuse_attention(model) == 0
    assert onnx_ir.to_proto(model) == before


def test_sizes_that_the_graph_does_not_tell_are_not_guessed() -> None:
    assert fuse(onnx.parser.parse_model(GRAPH))[1] == 0


def test_an_encoder_whose_layers_share_a_mask_of_keys() -> None:
    before = onnx.shape_inference.infer_shapes(encoder())
    after, count = fuse(before)
    assert (count, kinds(after)["Expand"]) == (1, 1)
    ids = np.random.default_rng(0).integers(0, 30, (3, 6))
    feeds = {"input_ids": ids, "attention_mask": (np.arange(6) < [[6], [2], [1]]).astype(np.int64)}
    np.testing.assert_allclose(run(after, feeds)[0], run(before, feeds)[0], rtol=0, atol=1e-6)


def test_a_cache_of_keys_stays() -> None:
    before = onnx.shape_inference.infer_shapes(decoder())
    assert fuse(before)[1] == 0


def test_twice_is_once() -> None:
    once, _ = fuse(build([]))
    again, count = fuse(once)
    assert count == 0
    assert again == once
