"""fp16: what is sensitive stays in fp32, everything else is half as large, and the function is nearly the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import generating_models as models
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgefold.errors import GateError, InputError
from edgefold.exporters import export_generator, export_onnx
from edgefold.exporters.half_precision import halve_model
from edgefold.runtimes import generate_sequence, open_sequence_sessions

Array = NDArray[Any]
RMS = """
<ir_version: 10, opset_import: ["" : 20]>
norm (float[batch, 4] x) => (float[batch, 4] y) <float two = {2.0}, float epsilon = {0.00001}>
{
    square = Pow(x, two)
    mean = ReduceMean <keepdims = 1> (square)
    shifted = Add(mean, epsilon)
    root = Sqrt(shifted)
    normed = Div(x, root)
    scaled = Mul(normed, two)
    y = Add(scaled, epsilon)
}
"""
"""Root mean square norm (Zhang and Sennrich, 2019); its constants are read by what is kept and by what is halved."""


def save(path: Path, text: str, **constants: Array) -> Path:
    """A model written as text, with constants added and the types of all values inferred."""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    onnx.save(onnx.shape_inference.infer_shapes(model, strict_mode=True), path)
    return path


def run(path: Path, **inputs: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, inputs))


def types(path: Path) -> dict[str, int]:
    """Constant -> its element type; the file is a valid model, types of all values included."""
    onnx.checker.check_model(str(path), full_check=True)
    return {tensor.name: tensor.data_type for tensor in onnx.load(path).graph.initializer}


def test_a_sum_of_squares_beyond_fp16_does_not_overflow(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", RMS)
    x = np.array([[3000, -2000, 1000, 10], [1e-3, 0, 0, 1e-3]], np.float32)
    (before,) = run(path, x=x)
    assert halve_model(path).kept == {"Add": 1, "Pow": 1, "ReduceMean": 1, "Sqrt": 1}
    np.testing.assert_allclose(run(path, x=x)[0], before, rtol=0, atol=4e-3)  # two roundings at 2


def test_a_constant_read_by_both_kinds_is_held_in_both_types(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", RMS)
    halve_model(path)
    found = types(path)
    assert {name: found[name] for name in ("two", "epsilon")} == dict.fromkeys(("two", "epsilon"), TensorProto.FLOAT)
    assert found["two_half"] == found["epsilon_half"] == TensorProto.FLOAT16


MASKED = """
<ir_version: 10, opset_import: ["" : 20]>
attention (float[rows, 3] scores, bool[rows, 3] mask) => (float[rows, 3] weights) <float fill = {-3.4028235e38}>
{
    masked = Where(mask, scores, fill)
    twice = Add(masked, masked)
    weights = Softmax(twice)
}
"""


def test_a_row_that_is_masked_throughout_is_no_nan(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", MASKED)
    mask = np.array([[True, True, False], [False, False, False]])
    halve_model(path)
    (weights,) = run(path, scores=np.full((2, 3), -50, np.float32), mask=mask)
    np.testing.assert_allclose(weights, [[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], atol=1e-6)


ROTARY = """
<ir_version: 10, opset_import: ["" : 20]>
rotary (int64[n] positions, float[n] x) => (float[n] y) <float frequency = {1.0}>
{
    counted = Cast <to = 1> (positions)
    angle = Mul(counted, frequency)
    turned = Cos(angle)
    y = Mul(x, turned)
}
"""


def test_angles_of_late_positions_are_exact(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", ROTARY)
    assert halve_model(path).kept == {"Cos": 1, "Mul": 1}
    positions = np.array([4001, 4003, 60001])
    (y,) = run(path, positions=positions, x=np.ones(3, np.float32))
    np.testing.assert_allclose(y, np.cos(positions), rtol=0, atol=1e-3)


PRODUCT = """
<ir_version: 10, opset_import: ["" : 20]>
product (float[n, 2] x) => (float[n, 2] y)
{
    inner = MatMul(x, small)
    y = MatMul(inner, large)
}
"""


def test_weights_beyond_fp16_keep_their_product_in_fp32(tmp_path: Path) -> None:
    small, large = np.eye(2, dtype=np.float32), np.diag([1e5, 1.0]).astype(np.float32)
    path = save(tmp_path / "model.onnx", PRODUCT, small=small, large=large)
    assert halve_model(path).kept == {"MatMul": 1}
    assert types(path) == {"small_half": TensorProto.FLOAT16, "large": TensorProto.FLOAT}
    np.testing.assert_array_equal(run(path, x=np.ones((1, 2), np.float32))[0], [[1e5, 1]])


@pytest.mark.parametrize("limit", [0, 2**20])
def test_weights_beside_the_graph_are_read_and_written(tmp_path: Path, limit: int) -> None:
    weights = {name: np.random.default_rng(0).normal(size=(2, 2)).astype(np.float32) for name in ("small", "large")}
    path = save(tmp_path / "model.onnx", PRODUCT, **weights)
    x = np.ones((3, 2), np.float32)
    (before,) = run(path, x=x)
    aside: dict[str, Any] = {"location": "model.onnx_data", "size_threshold": 0}
    onnx.save(onnx.load(path), path, save_as_external_data=True, **aside)
    halve_model(path, single_file_bytes=limit)
    assert (tmp_path / "model.onnx_data").exists() is (limit == 0)
    np.testing.assert_allclose(run(path, x=x)[0], before, atol=5e-3)


CACHE = """
<ir_version: 10, opset_import: ["" : 20]>
step (float[b, 1] x, float[b, p] past) => (float[b, q] logits, float[b, q] grown)
{
    grown = Concat <axis = 1> (past, x)
    logits = Softmax(grown)
}
"""


def test_what_is_kept_from_step_to_step_is_half_as_large(tmp_path: Path) -> None:
    names = {"past": "past_key_values.0.key", "grown": "present.0.key"}
    path = save(tmp_path / "model.onnx", CACHE)
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output, *model.graph.node):
        if isinstance(value, onnx.NodeProto):
            for field in (value.input, value.output):
                field[:] = [names.get(name, name) for name in field]
        else:
            value.name = names.get(value.name, value.name)
    onnx.save(model, path)
    found = halve_model(path)
    assert {spec.name: spec.dtype for spec in (*found.inputs, *found.outputs)} == {
        "x": "float32",
        "past_key_values.0.key": "float16",
        "logits": "float32",
        "present.0.key": "float16",
    }
    feeds: dict[str, Array] = {"x": np.ones((1, 1), np.float32), "past_key_values.0.key": np.ones((1, 3), np.float16)}
    logits, grown = run(path, **feeds)
    assert (logits.dtype, grown.dtype) == (np.float32, np.float16)
    np.testing.assert_allclose(logits, 0.25)


def test_an_encoder_decoder_in_fp16_passes_fp16_from_step_to_step(tmp_path: Path) -> None:
    artifact = export_generator(models.t5(), models.texts(), tmp_path / "out", precision="fp16")
    kinds = {spec.name: spec.dtype for part in artifact.parts.values() for spec in (*part.inputs, *part.outputs)}
    assert {kinds[name] for name in kinds if "key" in name or "value" in name} == {"float16"}
    assert {kinds["logits"], kinds["encoder_hidden_states"]} == {"float32"}
    assert artifact.lineage["parity"]["fp16"] < 1e-2
    assert artifact.lineage["kept_fp32"]["Softmax"] > 4  # summed over the graphs
    source = {name: value.numpy() for name, value in models.texts().items()}
    with open_sequence_sessions(artifact) as sessions:
        assert all(len(row) <= 5 for row in generate_sequence(sessions, source, 5))


def test_branches_are_refused(tmp_path: Path) -> None:
    def branch(name: str) -> onnx.GraphProto:
        node = helper.make_node("Identity", ["x"], [name])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])])

    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=branch("a"), else_branch=branch("b"))
    ends = {"c": TensorProto.BOOL, "x": TensorProto.FLOAT, "y": TensorProto.FLOAT}
    condition, x, y = (helper.make_tensor_value_info(name, kind, [1]) for name, kind in ends.items())
    graph = helper.make_graph([node], "graph", [condition, x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="fp16 takes no branches and loops, and choice is a If; use fp32"):
        halve_model(tmp_path / "model.onnx")


def test_a_classifier_exported_in_fp16_says_what_it_keeps(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    model, batch = make_bert().float(), text_batch()
    artifact = export_onnx(model, batch, tmp_path / "out", precision="fp16")
    assert artifact.precision == "fp16"
    assert {"LayerNormalization", "Softmax"} == set(artifact.lineage["kept_fp32"])
    assert artifact.lineage["parity"]["fp32"] < artifact.lineage["parity"]["fp16"] < 1e-2
    assert {spec.dtype for spec in artifact.outputs} == {"float32"}
    floats = [kind for kind in types(artifact.model_path).values() if kind in (TensorProto.FLOAT, TensorProto.FLOAT16)]
    assert floats.count(TensorProto.FLOAT16) > len(floats) / 2
    with pytest.raises(GateError, match=r"In fp16 the outputs differ from torch by up to .* more than 1e-09"):
        export_onnx(model, batch, tmp_path / "other", precision="fp16", half_tolerance=1e-9)
    assert not (tmp_path / "other").exists()
