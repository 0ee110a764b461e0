"""int8 for OpenVINO: integers wherever a weight is, decisions as in fp32, and opened in OpenVINO by default."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import Tensor

from edgefold.artifacts import Artifact, write_artifact
from edgefold.cli.int8_job import export_best_int8
from edgefold.errors import InputError
from edgefold.exporters import export_onnx, quantize_onnx
from edgefold.exporters.quantization import weight_products
from edgefold.exporters.weight_quantization import quantize_weights
from edgefold.openvino_modules import can_quantize
from edgefold.runtimes import benchmark_artifacts, open_session, verify_outputs

pytestmark = pytest.mark.skipif(not can_quantize(), reason="needs openvino and nncf")
Batch = dict[str, Tensor]


@pytest.fixture(scope="module")
def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "input_ids": torch.randint(0, 100, (8, length), generator=generator),
            "attention_mask": torch.ones(8, length, dtype=torch.long),
        }
        for length in (12, 7, 16, 9)
    ]


@pytest.fixture(scope="module")
def fp32(make_bert: Callable[..., Any], batches: list[Batch], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return export_onnx(make_bert().float(), batches[0], tmp_path_factory.mktemp("fp32") / "out", target="openvino")


@pytest.fixture(scope="module")
def int8(fp32: Artifact, batches: list[Batch]) -> Artifact:
    return quantize_onnx(fp32, fp32.folder.parent / "int8", target="openvino", calibration=batches)


def arrays(batches: list[Batch]) -> list[dict[str, np.ndarray[Any, Any]]]:
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches]


def test_it_decides_as_fp32_does_in_openvino(fp32: Artifact, int8: Artifact, batches: list[Batch]) -> None:
    with open_session(int8) as found, open_session(fp32, runtime="onnxruntime") as reference:
        assert found.runtime == "openvino"
        assert {"u8", "i8"} & set(found.settings()["nodes"])
        (logits,) = verify_outputs(found.run, reference.run, arrays(batches)).outputs.values()
    assert logits.cosine > 0.99
    assert logits.max_error > 0  # something was rounded


def test_every_weight_of_a_product_is_an_integer(fp32: Artifact, int8: Artifact) -> None:
    plain, quantized = (onnx.load(artifact.model_path) for artifact in (fp32, int8))
    integers = {tensor.name for tensor in quantized.graph.initializer if tensor.data_type == TensorProto.INT8}
    weights = {n.input[0] for n in quantized.graph.node if n.op_type == "DequantizeLinear"} & integers
    assert len(weights) >= len(weight_products(plain, ("MatMul", "Gemm")))
    assert weight_products(quantized, ("MatMul", "Gemm")) == []
    assert (int8.precision, int8.target, int8.lineage["quantization"]) == ("int8", "openvino", "static")


def test_layers_that_are_left_out_stay(fp32: Artifact, batches: list[Batch], tmp_path: Path) -> None:
    names = weight_products(onnx.load(fp32.model_path), ("MatMul", "Gemm"))[:2]
    some = quantize_onnx(fp32, tmp_path / "some", target="openvino", calibration=batches, left_out=names)
    assert set(names) <= set(weight_products(onnx.load(some.model_path), ("MatMul", "Gemm")))


def test_it_is_one_of_the_candidates_in_the_runtime_that_it_is_for(
    fp32: Artifact, batches: list[Batch], tmp_path: Path
) -> None:
    def hand_out(folder: Path) -> Artifact:
        return fp32

    artifact, _ = export_best_int8(
        hand_out,
        batches,
        tmp_path / "out",
        target="cpu-x86",
        others=["openvino"],
        runs_here=True,
        overwrite=False,
    )
    tried = {candidate["name"]: candidate for candidate in artifact.lineage["int8"]["candidates"]}
    assert tried["static for openvino"]["runtime"] == "openvino"
    assert tried["static"]["runtime"] == tried["dynamic"]["runtime"] == "onnxruntime"
    assert all(candidate["seconds"] > 0 for candidate in tried.values())
    is_openvino = artifact.lineage["int8"]["chosen"].endswith("openvino")
    assert (artifact.target == "openvino") is is_openvino


def test_it_is_measured_in_turns_with_another_runtime(fp32: Artifact, int8: Artifact, batches: list[Batch]) -> None:
    plain = fp32.model_copy(update={"target": "cpu-x86"})
    plain._folder = fp32.folder
    reports = benchmark_artifacts({"a": int8, "b": plain}, arrays(batches)[0], min_duration_s=0, min_runs=2)
    assert [report.runtime for report in reports.values()] == ["openvino", "onnxruntime"]


def test_what_openvino_has_no_fast_kernels_for_is_refused(fp32: Artifact, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="openvino computes int8 with scales found at run time slower than fp32"):
        quantize_onnx(fp32, tmp_path / "out", target="openvino", quantization="dynamic")


def test_a_missing_package_is_named(
    fp32: Artifact, batches: list[Batch], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgefold.exporters.quantization.can_quantize", lambda: False)
    with pytest.raises(InputError, match=r"made by NNCF, which is not here: pip install 'edgefold\[openvino-int8\]'"):
        quantize_onnx(fp32, tmp_path / "out", target="openvino", calibration=batches)


def test_what_nncf_does_not_take_is_told(fp32: Artifact, batches: list[Batch], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"NNCF does not quantize model\.onnx: \S"):
        quantize_onnx(fp32, tmp_path / "out", target="openvino", calibration=batches, left_out=["no such layer"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("precision", "bits"), [("weight-int8", 8), ("int4", 4)])
def test_weights_in_few_bits_are_read(
    fp32: Artifact, batches: list[Batch], tmp_path: Path, precision: Any, bits: int
) -> None:
    """ONNX Runtime's own operator, which OpenVINO knows too."""
    shutil.copy(fp32.model_path, tmp_path / "model.onnx")
    quantize_weights(tmp_path / "model.onnx", bits)
    facts: dict[str, Any] = {"format": "onnx", "target": "openvino", "model_file": "model.onnx"}
    artifact = write_artifact(tmp_path, precision=precision, inputs=fp32.inputs, outputs=fp32.outputs, **facts)
    with open_session(artifact) as found, open_session(artifact, runtime="onnxruntime") as reference:
        assert (found.runtime, found.settings()["inference_precision"]) == ("openvino", "f32")
        (logits,) = verify_outputs(found.run, reference.run, arrays(batches)).outputs.values()
    assert logits.cosine > 0.999
