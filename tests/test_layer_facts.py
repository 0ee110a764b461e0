"""What inspectors and logs of TensorRT 8 and 10 say about layers is counted, and what they do not say is "unknown"."""

import json
from typing import Any

import pytest

from edgefold.exporters.tensorrt.layer_facts import read_layers, read_sparsity


@pytest.mark.parametrize(
    ("layer", "precision"),
    [
        ({"Weights": {"Type": "Int8"}, "Outputs": [{"Format/Datatype": "Half"}]}, "int8"),
        ({"TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn", "Outputs": [{"Format/Datatype": "Half"}]}, "int8"),
        ({"Outputs": [{"Format/Datatype": "Row major linear FP16 format"}]}, "fp16"),
        ({"Outputs": [{"Format/Datatype": "N/A due to dynamic shapes"}]}, "unknown"),
        ({"Outputs": [], "Inputs": [{"Format/Datatype": "Float"}]}, "fp32"),
        ({"Outputs": [{"Format/Datatype": "Int64"}]}, "integer"),
        ({"Outputs": [{"Datatype": "BFloat16"}]}, "bf16"),
        ({"Outputs": [{"Format/Datatype": "FP8"}]}, "fp8"),
        ("{ForeignNode[a...b]}", "unknown"),
    ],
)
def test_the_precision_of_a_layer(layer: Any, precision: str) -> None:
    assert read_layers(json.dumps({"Layers": [layer]})) == {"total": 1, "precisions": {precision: 1}, "sparse": 0}


def test_layers_are_counted() -> None:
    half = {"Outputs": [{"Format/Datatype": "Half"}], "TacticName": "sm80_xmma_sparse_gemm_f16f16_f16"}
    layers = [half, half, {"Outputs": [{"Format/Datatype": "Int8"}]}, "a name"]
    found = read_layers(json.dumps({"Layers": layers, "Bindings": []}))
    assert found == {"total": 4, "precisions": {"fp16": 2, "int8": 1, "unknown": 1}, "sparse": 2}


@pytest.mark.parametrize(
    ("log", "found"),
    [
        (
            "[I] (Sparsity) Found 39 layer(s) eligible to use sparse tactics: a\n"
            "[I] (Sparsity) Chose 2 layer(s) using sparse tactics: a",
            {"eligible": 39, "chosen": 2},
        ),
        (
            "[I] (Sparsity) Layers eligible for sparse math: Conv_0, MatMul_1 + Relu_2\n"
            "[I] (Sparsity) TRT inference plan picked sparse implementation for layers: Conv_0\n[I] more",
            {"eligible": 2, "chosen": 1},
        ),
        (
            "[I] (Sparsity) Layers eligible for sparse math: \n"
            "[I] (Sparsity) TRT inference plan picked sparse implementation for layers:\n[I] more",
            {"eligible": 0, "chosen": 0},
        ),
        ("nothing of the kind", None),
    ],
)
def test_what_the_log_says_about_sparsity(log: str, found: dict[str, int] | None) -> None:
    assert read_sparsity(log) == found
