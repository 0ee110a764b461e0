"""Weights alone in 4 or 8 bits: near the original, tied tables included, and gated on what that costs."""

import logging
import sys
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


def test_a_tied_table_is_looked_up_in_int8_and_multiplied_in_few_bits(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    table = save_tied(path)
    before = path.stat().st_size
    quantize_weights(path, 8)
    graph = onnx.load(path).graph
    assert sorted(node.op_type for node in graph.node) == ["DequantizeLinear", "Gather", "MatMulNBits"]
    assert path.stat().st_size < before * 0.6  # the table was one, and is two
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    ids = np.arange(16)
    (logits,) = session.run(None, {"ids": ids})
    expected = table[ids] @ table.T
    # Of normal weights a block of 32 spans about 4.1, a step is 0.016; errors of 64 terms add as noise.
    assert np.sqrt(np.mean((logits - expected) ** 2)) < 0.2
    assert not np.array_equal(logits, expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_beside_four_bits_the_head_has_eight(tmp_path: Path, bits: int) -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    head (float[n, 32] x) => (float[n, 32] y) { inner = MatMul(x, w)  y = MatMul(inner, v) }"""
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(numpy_helper.from_array(np.eye(32, dtype=np.float32), name) for name in "wv")
    for index, node in enumerate(model.graph.node):
        node.name = str(index)
    onnx.save(model, tmp_path / "model.onnx")
    quantize_weights(tmp_path / "model.onnx", bits)
    products = onnx.load(tmp_path / "model.onnx").graph.node
    assert [attribute.i for node in products for attribute in node.attribute if attribute.name == "bits"] == [bits, 8]


def test_the_quantizers_own_logging_does_not_reach_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it configures the root logger, where nobody did before."""
    monkeypatch.delitem(sys.modules, "onnxruntime.quantization.matmul_nbits_quantizer", raising=False)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    save_tied(tmp_path / "model.onnx")
    quantize_weights(tmp_path / "model.onnx", 8)
    assert logging.getLogger().handlers == []


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
