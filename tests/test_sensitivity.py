"""Sensitivity: a layer's error is what quantizing it alone costs, and the few that cost the most are left out."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefold.artifacts import Artifact
from edgefold.exporters import export_onnx, measure_sensitivity, most_sensitive, quantize_onnx
from edgefold.exporters.sensitivity import LayerSensitivity

DEPTH = 4
Batch = dict[str, Tensor]


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [{"input": torch.randn(4, 16, generator=generator)} for _ in range(2)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory, batches: list[Batch]) -> Artifact:
    """Layers of which the third has one weight that is so large that the others of its row are lost in int8."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [layer for _ in range(DEPTH) for layer in (nn.Linear(16, 16), nn.Tanh())]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model[4].weight[:, 0] = 0.0
        model[4].weight[:8, 0] = 100.0
        model[2].weight[0] = 0.0
        model[2].bias[0] = 0.0
    return export_onnx(model, batches[0], tmp_path_factory.mktemp("mlp") / "out")


def run(artifact: Artifact, batches: list[Batch]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(artifact.model_path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {n: v.numpy() for n, v in batch.items()})[0] for batch in batches])


def test_the_error_of_a_layer_is_that_of_quantizing_it_alone(
    artifact: Artifact, batches: list[Batch], tmp_path: Path
) -> None:
    layers = measure_sensitivity(artifact.model_path, batches, "cpu-arm")
    assert len(layers) == DEPTH
    assert all(layer.parameters == 256 for layer in layers)
    plain = run(artifact, batches)
    for layer in layers:
        left_out = [other.layer for other in layers if other is not layer]
        alone = quantize_onnx(
            artifact, tmp_path / layer.layer, target="cpu-arm", calibration=batches, left_out=left_out
        )
        expected = np.linalg.norm(run(alone, batches) - plain) / np.linalg.norm(plain)
        assert layer.error == pytest.approx(expected, rel=1e-2)  # here biases are in int32 too


def test_a_layer_with_an_outlier_is_the_most_sensitive(artifact: Artifact, batches: list[Batch]) -> None:
    first, second, *_ = measure_sensitivity(artifact.model_path, batches, "cpu-arm")
    assert first.error > 2 * second.error
    names = [node.name for node in _products(artifact)]
    assert names.index(first.layer) == 2
    assert first.module == "4"  # in the sequence of layers and tanhs


def test_no_artifact_names_a_path_of_this_machine(artifact: Artifact) -> None:
    content = artifact.model_path.read_bytes()
    assert b"name_scopes" in content  # torch's notes are there
    assert b"stack_trace" not in content
    assert b"site-packages" not in content


def _products(artifact: Artifact) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(artifact.model_path).graph.node if node.op_type in ("Gemm", "MatMul")]


def layers(*errors: float) -> list[LayerSensitivity]:
    return [LayerSensitivity(str(index), "", "MatMul", 1, error) for index, error in enumerate(errors)]


def test_few_layers_are_left_out() -> None:
    assert most_sensitive(layers(*[0.1] * 15, 1.0)) == ["15"]
    assert most_sensitive(layers(*[1.0] * 16)) == ["0", "1"]  # one in eight at most
    assert most_sensitive(layers(1.0, *[0.0] * 15)) == ["0"]
    assert most_sensitive(layers(*[1.0] * 7)) == []  # of a handful, none
    assert most_sensitive(layers(*[0.0] * 16)) == []
