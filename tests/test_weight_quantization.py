"""Weights alone in 4 or 8 bits: near the original, tied tables included, and gated on what that costs."""

from pathlib import Path

import generating_models as models
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgefold.errors import GateError, InputError
from edgefold.exporters import export_generator
from edgefold.exporters.weight_quantization import quantize_weights
from edgefold.runtimes import generate, open_session

TIED = """
<ir_version: 10, opset_import: ["" : 20]>
tied (int64[n] ids) => (float[n, 2048] logits)
{
    rows = Gather(table, ids)
    turned = Transpose <perm = [1, 0]> (table)
    logits = MatMul(rows, turned)
}
"""


def save_tied(path: Path) -> np.ndarray:
    table = np.random.default_rng(0).normal(size=(2048, 64)).astype(np.float32)
    model = onnx.parser.parse_model(TIED)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    onnx.save(model, path)
    return table


@pytest.mark.parametrize("bits", [4, 8])
def test_a_tied_table_is_looked_up_in_int8_and_multiplied_in_few_bits(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "model.onnx"
    table = save_tied(path)
    before = path.stat().st_size
    quantize_weights(path, bits)
    graph = onnx.load(path).graph
    assert sorted(node.op_type for node in graph.node) == ["DequantizeLinear", "Gather", "MatMulNBits"]
    assert path.stat().st_size < before * {4: 0.45, 8: 0.6}[bits]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.arange(16)
    (logits,) = session.run(None, {"ids": ids})
    expected = table[ids] @ table.T
    # Of normal weights a block of 32 spans about 4.1: half a step is 0.14 in 4 bits, 0.008 in 8; 64 terms add as noise.
    error = np.sqrt(np.mean((logits - expected) ** 2))
    assert error < {4: 1.0, 8: 0.2}[bits]
    assert not np.array_equal(logits, expected)


def test_without_products_there_is_nothing_to_gain(tmp_path: Path) -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> a (float[n] x) => (float[n] y) { y = Relu(x) }'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    with pytest.raises(InputError, match="no MatMul with constant weights, so weights in 4 bits have nothing to gain"):
        quantize_weights(tmp_path / "model.onnx", 4)


def test_a_language_model_is_gated_on_its_divergence_and_generates(tmp_path: Path) -> None:
    artifact = export_generator(models.llama(), models.texts(), tmp_path / "out", precision="weight-int8")
    parity = artifact.lineage["parity"]
    assert 0 < parity["weight-int8_divergence"] < 0.01
    assert artifact.precision == "weight-int8"
    with open_session(artifact) as session:
        assert len(generate(session, [np.array([3, 4, 5])], 4, end_ids=())[0]) == 4
    with pytest.raises(
        GateError, match=r"With weights in int4 the next token diverges from torch by 0\.0\d\d nats, more"
    ):
        export_generator(models.llama(), models.texts(), tmp_path / "a", precision="int4", most_divergence=1e-3)
    assert not (tmp_path / "a").exists()
