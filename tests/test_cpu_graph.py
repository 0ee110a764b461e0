"""Graph rewrites for the CPU: the same function, and ONNX Runtime does not undo them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest

from edgefold.artifacts import Artifact
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.exporters.cpu_graph import keep_layer_norms_apart

HEADER = '<ir_version: 10, opset_import: ["" : 20]>\n'
SUM_AND_NORM = """
add_and_norm (float[batch, 4] x, float[batch, 4] y) => (float[batch, 4] normalized, float[batch, 4] added) {
    scale = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]> ()
    sum = Add(x, y)
    normalized = LayerNormalization <axis = -1> (sum, scale)
    added = Add(x, y)
}"""


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_only_the_addition_before_a_layer_norm_is_rewritten() -> None:
    before = onnx.parser.parse_model(HEADER + SUM_AND_NORM)
    model = onnx_ir.from_proto(before)
    assert keep_layer_norms_apart(model) == 1
    after = onnx_ir.to_proto(model)
    assert kinds(after) == {"Constant": 1, "Sum": 1, "LayerNormalization": 1, "Add": 1}
    onnx.checker.check_model(after, full_check=True)
    inputs = {name: np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32) for name in "xy"}
    expected, found = (
        onnxruntime.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)
        for m in (before, after)
    )
    for left, right in zip(expected, found, strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def fp32(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    return export_onnx(make_bert().float(), text_batch(), tmp_path_factory.mktemp("fp32") / "out")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_onnx_runtime_leaves_the_layer_norms_of_a_transformer_apart(
    fp32: Artifact, tmp_path: Path, precision: str
) -> None:
    artifact = fp32 if precision == "fp32" else quantize_onnx(fp32, tmp_path / "out", quantization="dynamic")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(str(artifact.model_path), options, providers=["CPUExecutionProvider"])
    found = kinds(onnx.load(tmp_path / "optimized.onnx"))
    assert found["SkipLayerNormalization"] == 0
    assert found["LayerNormalization"] == 5
