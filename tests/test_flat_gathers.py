"""Picking by one index instead of two: the same function, and nothing is rewritten whose indices could be negative."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from edgefold.exporters.flat_gathers import flatten_mask_gathers

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
mask_of (int64[batch, sequence] mask) => (bool[batch, one, length, sequence] picked)
<int64 zero = {0}, int64 one = {1}, int64[1] last = {-1},
 int64[3] row_axes = {1, 2, 3}, int64[3] column_axes = {0, 1, 2}>
{
    matrix = Cast <to = 9> (mask)
    rows = Shape <start = 0, end = 1> (mask)
    columns = Shape <start = 1, end = 2> (mask)
    n_rows = Squeeze(rows)
    n_columns = Squeeze(columns)
    i = Range(FIRST, n_rows, one)
    j = Range(zero, n_columns, one)
    i4 = Unsqueeze(i, row_axes)
    j4 = Unsqueeze(j, column_axes)
    both = Max(i4, j4)
    shape = Shape(both)
    wide_i = Expand(i4, shape)
    wide_j = Expand(j4, shape)
    last_i = Unsqueeze(wide_i, last)
    last_j = Unsqueeze(wide_j, last)
    indices = Concat <axis = -1> (last_i, last_j)
    gathered = GatherND(matrix, indices)
    picked = Not(gathered)
}"""


def run(model: onnx.ModelProto, mask: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {"mask": mask})[0]
    return found


def rewrite(text: str) -> tuple[onnx.ModelProto, onnx.ModelProto, int]:
    before = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    model = onnx_ir.from_proto(before)
    count = flatten_mask_gathers(model)
    return before, onnx_ir.to_proto(model), count


@pytest.mark.parametrize(("rows", "length"), [(1, 1), (3, 5), (5, 3)])
def test_the_same_is_picked(rows: int, length: int) -> None:
    before, after, count = rewrite(GRAPH.replace("FIRST", "zero"))
    assert count == 1
    assert Counter(node.op_type for node in after.graph.node)["GatherND"] == 0
    onnx.checker.check_model(after, full_check=True)
    mask = np.random.default_rng(0).integers(0, 2, (rows, length))
    found = run(after, mask)
    assert found.shape == (rows, 1, 1, length)
    np.testing.assert_array_equal(found, run(before, mask))


@pytest.mark.parametrize(
    "text",
    [
        GRAPH.replace("FIRST", "one"),  # not from 0 on
        GRAPH.replace("FIRST", "zero").replace("Expand(i4, shape)", "Neg(i4)"),
        GRAPH.replace("FIRST", "zero")
        .replace("GatherND(", "GatherND <batch_dims = 0> (")
        .replace("<axis = -1> (last_i, last_j)", "<axis = 0> (last_i, last_j)"),
    ],
)
def test_what_is_not_counted_up_from_0_is_left_alone(text: str) -> None:
    model = onnx_ir.from_proto(onnx.parser.parse_model(text))
    assert flatten_mask_gathers(model) == 0
