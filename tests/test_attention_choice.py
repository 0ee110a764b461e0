"""Attention is one operator where its readers are known to be new enough, and nowhere else."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from edgefold.artifacts import Artifact
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.exporters.attention_choice import OLDEST_READER, fuses_attention
from edgefold.runtimes import open_session

LAYERS = 2
SIZES: Any = {"hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32}
reads_it = pytest.mark.skipif(
    tuple(map(int, onnxruntime.__version__.split(".")[:2])) < OLDEST_READER, reason="needs ONNX Runtime 1.24"
)


def kinds(artifact: Artifact) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(artifact.model_path).graph.node)


def opset(artifact: Artifact) -> int:
    return int(onnx.load(artifact.model_path).opset_import[0].version)


@pytest.mark.parametrize(
    ("precision", "target", "asked", "wanted"),
    [
        ("int8", "cpu-x86", None, True),
        ("int8", "cpu-x86-vnni", None, True),
        ("int8", "cpu-x86", 20, False),
        ("int8", "cpu-arm", None, False),
        ("int8", "cpu-arm", 23, True),
        ("fp32", "cpu-x86", None, False),
        ("fp32", "cpu-x86", 23, True),
        ("fp16", "cpu-x86", 23, False),
        ("int4", "cpu-x86", 23, False),
        ("int8", "openvino", 23, False),
        ("int8", "tensorrt-11", 23, False),
    ],
)
def test_where_it_is_one_operator(
    monkeypatch: pytest.MonkeyPatch, precision: str, target: str, asked: int | None, wanted: bool
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.24.0")
    assert fuses_attention(precision, target, asked) is wanted


def test_a_runtime_that_does_not_read_it_is_not_given_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.23.2")
    assert not fuses_attention("int8", "cpu-x86", None)
    assert fuses_attention("int8", "cpu-x86", 23)


@pytest.fixture(scope="module")
def fp32(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    return export_onnx(make_bert().float(), text_batch(), tmp_path_factory.mktemp("fp32") / "out")


def test_fp32_is_not_raised_unasked(fp32: Artifact) -> None:
    assert (opset(fp32), kinds(fp32)["Attention"], kinds(fp32)["Softmax"]) == (20, 0, LAYERS)


@reads_it
@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_int8_with_it_is_int8_without_it(
    fp32: Artifact, tmp_path: Path, text_batch: Callable[..., Any], method: Any
) -> None:
    """Scales are those of the same values, and every product of weights is an integer one."""
    options: Any = {"quantization": method, "calibration": [text_batch()]}
    apart = quantize_onnx(fp32, tmp_path / "apart", opset=20, **options)
    fused = quantize_onnx(fp32, tmp_path / "fused", **options)
    assert (kinds(apart)["Attention"], kinds(fused)["Attention"]) == (0, LAYERS)
    assert (opset(apart), opset(fused)) == (20, 23)
    assert (apart.lineage["opset"], fused.lineage["opset"]) == (20, 23)
    integers = "MatMulInteger" if method == "dynamic" else "QuantizeLinear"
    assert kinds(fused)[integers] == kinds(apart)[integers] > 0
    batch = {name: array.numpy() for name, array in text_batch().items()}
    found = []
    for artifact in (apart, fused):
        with open_session(artifact) as session:
            found.append(session.run({spec.name: batch[spec.name] for spec in session.inputs})["logits"])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-5)


def test_a_model_without_attention_keeps_its_opset(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 4))
    options: Any = {"precision": "int8", "quantization": "dynamic"}
    artifact = export_onnx(model, {"input": torch.zeros(2, 8)}, tmp_path / "out", **options)
    assert (opset(artifact), artifact.lineage["opset"]) == (20, 20)


def test_fp32_has_it_where_opset_23_is_asked_for(tmp_path: Path) -> None:
    """A vision transformer, whose attention has no mask of the input's."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    model = ViTForImageClassification(ViTConfig(num_attention_heads=2, image_size=16, patch_size=8, **SIZES))
    artifact = export_onnx(model, {"pixel_values": torch.randn(2, 3, 16, 16)}, tmp_path / "out", opset=23)
    assert (opset(artifact), kinds(artifact)["Attention"], kinds(artifact)["Softmax"]) == (23, 1, 0)
    assert artifact.lineage["opset"] == 23
    assert artifact.lineage["parity"]["fp32"] < 1e-5


def test_rotated_and_grouped_heads_are_left_alone(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(0)
    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, vocab_size=50, pad_token_id=0, **SIZES)
    inputs = {"input_ids": torch.randint(1, 50, (2, 6)), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    options: Any = {"precision": "int8", "quantization": "dynamic"}
    artifact = export_onnx(LlamaForSequenceClassification(config), inputs, tmp_path / "out", **options)
    assert (opset(artifact), kinds(artifact)["Attention"], kinds(artifact)["Softmax"]) == (20, 0, 1)
