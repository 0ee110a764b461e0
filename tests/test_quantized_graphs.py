"""Quantization: what is int8 and how, read from the graph; and what it costs."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgefold.artifacts import Artifact, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters import export_onnx, quantize_onnx

Batch = dict[str, Tensor]
LAYERS = 2
WEIGHT_PRODUCTS = 6 * LAYERS + 2
"""Query, key, value, output and the two of the MLP; pooler and head."""
ATTENTION_PRODUCTS = 2 * LAYERS


class Graph:
    """The nodes and constants of a model."""

    def __init__(self, artifact: Artifact) -> None:
        graph = onnx.load(artifact.model_path).graph
        self.nodes = list(graph.node)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self.producer = {name: node for node in graph.node for name in node.output}

    def of_type(self, *types: str) -> list[onnx.NodeProto]:
        return [node for node in self.nodes if node.op_type in types]

    def dequantizer(self, name: str) -> onnx.NodeProto | None:
        """The DequantizeLinear that a value comes from, looking through Reshape and Transpose."""
        node = self.producer.get(name)
        while node is not None and node.op_type in ("Reshape", "Transpose"):
            node = self.producer.get(node.input[0])
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def products(self) -> tuple[list[onnx.NodeProto], list[onnx.NodeProto]]:
        """Those with a quantized weight, and all others."""
        both: tuple[list[onnx.NodeProto], list[onnx.NodeProto]] = ([], [])
        for node in self.of_type("MatMul", "Gemm"):
            weight = self.dequantizer(node.input[1])
            both[weight is None or weight.input[0] not in self.constants].append(node)
        return both


@pytest.fixture(scope="module")
def calibration() -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "input_ids": torch.randint(0, 4100, (4, 12), generator=generator),
            "attention_mask": torch.ones(4, 12, dtype=torch.long),
        }
        for _ in range(4)
    ]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory, calibration: list[Batch]) -> Artifact:
    """A BERT whose vocabulary is just large enough for its table to be worth quantizing."""
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=4100,
        max_position_embeddings=32,
    )
    model = BertForSequenceClassification(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return export_onnx(model, calibration[0], tmp_path_factory.mktemp("fp32") / "out", lineage={"teacher": "tiny"})


@pytest.fixture(scope="module")
def quantized(fp32: Artifact, calibration: list[Batch]) -> Callable[[str, str], Artifact]:
    """Quantize once for each method and target."""
    made: dict[tuple[str, str], Artifact] = {}

    def get(method: str, target: str) -> Artifact:
        if (method, target) not in made:
            out = fp32.folder.parent / f"{method}-{target}"
            given: Any = {"quantization": method, "target": target}
            made[method, target] = quantize_onnx(
                fp32, out, calibration=calibration if method == "static" else None, **given
            )
        return made[method, target]

    return get


Quantized = Callable[[str, str], Artifact]


def run(artifact: Artifact, batches: list[Batch], optimized: bool = True) -> NDArray[np.float64]:
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # Eight bits of weights saturate on x86 without VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(str(artifact.model_path), options, providers=["CPUExecutionProvider"])
    outputs = [session.run(None, {name: value.numpy() for name, value in batch.items()})[0] for batch in batches]
    return np.concatenate(outputs).astype(np.float64)


@pytest.mark.parametrize(
    ("target", "dtype", "zero"),
    [("cpu-x86", np.uint8, 128), ("cpu-x86-vnni", np.uint8, 128), ("cpu-arm", np.int8, 0), ("tensorrt", np.int8, 0)],
)
def test_activations_are_symmetric_in_the_encoding_of_the_target(
    quantized: Quantized, target: str, dtype: type, zero: int
) -> None:
    graph = Graph(quantized("static", target))
    activations = graph.of_type("QuantizeLinear")
    assert activations
    for node in activations:
        point = graph.constants[node.input[2]]
        assert point.dtype == dtype
        assert point.shape == ()
        assert int(point) == zero


@pytest.mark.parametrize(("target", "largest"), [("cpu-x86", 64), ("cpu-x86-vnni", 127), ("cpu-arm", 127)])
def test_weights_are_signed_with_a_scale_for_each_output(quantized: Quantized, target: str, largest: int) -> None:
    graph = Graph(quantized("static", target))
    products, _ = graph.products()
    assert len(products) == WEIGHT_PRODUCTS
    for node in products:
        dequantizer = graph.dequantizer(node.input[1])
        assert dequantizer is not None
        weight, scale, zero = (graph.constants[name] for name in dequantizer.input)
        axis = next(attribute.i for attribute in dequantizer.attribute if attribute.name == "axis")
        is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        assert axis % 2 == (0 if is_transposed else 1)
        assert weight.dtype == np.int8
        assert scale.shape == zero.shape == (weight.shape[axis],)
        assert (zero == 0).all()
        assert np.abs(weight.astype(int)).max() <= largest


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm"])
def test_products_of_two_activations_stay_in_floating_point(quantized: Quantized, target: str) -> None:
    graph = Graph(quantized("static", target))
    _, others = graph.products()
    assert len(others) + 2 * len(graph.of_type("Attention")) == ATTENTION_PRODUCTS
    for node in others:
        assert graph.dequantizer(node.input[0]) is None
        assert graph.dequantizer(node.input[1]) is None


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_the_table_of_words_is_held_in_int8_and_dequantized_after_the_look_up(
    quantized: Quantized, fp32: Artifact, method: str
) -> None:
    graph = Graph(quantized(method, "cpu-x86"))
    (look_up,) = [n for n in graph.of_type("Gather") if graph.constants.get(n.input[0], np.empty(0)).dtype == np.int8]
    table = graph.constants[look_up.input[0]]
    assert table.shape == (4100, 16)
    (after,) = [node for node in graph.nodes if look_up.output[0] in node.input]
    assert after.op_type == "DequantizeLinear"
    scale = graph.constants[after.input[1]]
    original = next(value for value in Graph(fp32).constants.values() if value.shape == table.shape)
    assert (np.abs(table * scale - original) <= scale / 2 * 1.001).all()  # rounding to nearest; float32 scales


def test_dynamic_quantization_needs_no_calibration_and_takes_the_matrix_products(
    quantized: Quantized, fp32: Artifact
) -> None:
    before, after = Graph(fp32), Graph(quantized("dynamic", "cpu-x86"))
    products = len(before.of_type("MatMul")) + len(before.of_type("Gemm"))
    assert products == len(after.of_type("MatMulInteger")) + ATTENTION_PRODUCTS


def test_dynamic_quantization_takes_layers_on_matrices_too(tmp_path: Path) -> None:
    artifact = export_onnx(
        nn.Linear(8, 4), {"input": torch.randn(2, 8)}, tmp_path / "out", precision="int8", quantization="dynamic"
    )
    assert len(Graph(artifact).of_type("MatMulInteger")) == 1


@pytest.mark.parametrize("method", ["static", "dynamic"])
@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm"])
def test_int8_computes_nearly_what_fp32_does_and_is_smaller(
    quantized: Quantized, fp32: Artifact, calibration: list[Batch], method: str, target: str
) -> None:
    artifact = quantized(method, target)
    a, b = run(fp32, calibration).ravel(), run(artifact, calibration).ravel()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99
    assert not np.array_equal(a, b)
    assert artifact.size_bytes < fp32.size_bytes


def test_int8_takes_other_batches_and_sequences(quantized: Quantized, calibration: list[Batch]) -> None:
    short = {name: value[:1, :3] for name, value in calibration[0].items()}
    assert run(quantized("static", "cpu-x86"), [short]).shape == (1, 2)


def test_an_int8_artifact_keeps_what_its_origin_says(quantized: Quantized, fp32: Artifact) -> None:
    artifact = quantized("static", "cpu-arm")
    assert load_artifact(artifact.folder) == artifact
    assert (artifact.precision, artifact.target) == ("int8", "cpu-arm")
    assert (artifact.inputs, artifact.outputs, artifact.task) == (fp32.inputs, fp32.outputs, fp32.task)
    assert artifact.lineage == {**fp32.lineage, "quantization": "static"}
    assert set(artifact.files) == set(fp32.files)


def test_exporting_in_int8_is_exporting_and_quantizing(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path: Path
) -> None:
    model, batch = make_bert().float(), text_batch()
    one = export_onnx(model, batch, tmp_path / "one", precision="int8", calibration=[batch])
    export_onnx(model, batch, tmp_path / "fp32")
    two = quantize_onnx(tmp_path / "fp32", tmp_path / "two", calibration=[batch])
    np.testing.assert_array_equal(run(one, [batch]), run(two, [batch]))
    assert one.lineage["parity"]["int8"] > one.lineage["parity"]["fp32"]
    assert (one.lineage["quantization"], one.precision, one.target) == ("static", "int8", "cpu-x86")


def test_quantizing_leaves_the_loggers_of_the_program_alone(fp32: Artifact, tmp_path: Path) -> None:
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.INFO)
    try:
        quantize_onnx(fp32, tmp_path / "out", quantization="dynamic")
        assert logging.getLogger().level == logging.INFO
    finally:
        logging.getLogger().setLevel(level)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Static int8 needs calibration=batches"),
        ({"calibration": []}, "at least one calibration batch; got none"),
        ({"calibration": [{"input_ids": torch.ones(1, 2).long()}]}, "batch 0 has input_ids and lacks attention_mask"),
        ({"quantization": "qat"}, "quantization='qat' is not known; choose one of static, dynamic"),
        (
            {"quantization": "dynamic", "target": "gpu"},
            "target='gpu' is not known; choose one of cpu-x86, cpu-x86-vnni",
        ),
        ({"quantization": "dynamic", "target": "tensorrt-8.6"}, "tensorrt-8.6 reads no int8 with scales found at run"),
    ],
)
def test_what_cannot_be_quantized_is_refused_and_leaves_nothing(
    fp32: Artifact, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quantize_onnx(fp32, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_int8_is_not_quantized_again(quantized: Quantized, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds int8 onnx; quantize_onnx takes fp32 onnx"):
        quantize_onnx(quantized("dynamic", "cpu-x86"), tmp_path / "out", quantization="dynamic")


def test_a_model_without_weights_to_multiply_by_has_nothing_to_gain(tmp_path: Path) -> None:
    artifact = export_onnx(nn.ReLU(), {"input": torch.randn(2, 4)}, tmp_path / "fp32")
    with pytest.raises(InputError, match="no MatMul, Gemm or LSTM with constant weights, so dynamic int8"):
        quantize_onnx(artifact, tmp_path / "int8", quantization="dynamic")
    assert [path.name for path in tmp_path.iterdir()] == ["fp32"]


def _masks(batch: Batch) -> Batch:
    return {"attention_mask": batch["attention_mask"]}


def test_both_encodings_compute_the_same_bits(quantized: Quantized, calibration: list[Batch]) -> None:
    """u8 about 128 and s8 about 0 are one grid with the same ends; dequantized, the operands are the same floats.

    The batch is not the calibration's, so that some activations are beyond the ends. Fused kernels add in integers.
    """
    other = [{"input_ids": (batch["input_ids"] * 7 + 1) % 4100, **_masks(batch)} for batch in calibration]
    for optimized in (False, True):
        unsigned, signed = (run(quantized("static", t), other, optimized) for t in ("cpu-x86-vnni", "cpu-arm"))
        np.testing.assert_array_equal(unsigned, signed)
    seven = run(quantized("static", "cpu-x86"), other, False)
    assert not np.array_equal(seven, signed)  # weights of 7 bits: the comparison can fail


def test_seven_bits_of_weights_have_the_activations_of_eight(quantized: Quantized) -> None:
    scales = []
    for target in ("cpu-x86", "cpu-arm"):
        graph = Graph(quantized("static", target))
        scales.append({n.input[0]: float(graph.constants[n.input[1]]) for n in graph.of_type("QuantizeLinear")})
    assert scales[0] == scales[1]


def test_tensorrt_gets_no_int32_and_no_table_in_int8(quantized: Quantized) -> None:
    graph = Graph(quantized("static", "tensorrt"))
    dequantized = {
        graph.constants[n.input[0]].dtype for n in graph.of_type("DequantizeLinear") if n.input[0] in graph.constants
    }
    assert dequantized == {np.dtype(np.int8)}
    assert [n for n in graph.of_type("Gather") if graph.constants.get(n.input[0], np.empty(0)).dtype == np.int8] == []


def test_layers_that_are_left_out_stay_in_fp32(fp32: Artifact, calibration: list[Batch], tmp_path: Path) -> None:
    names = [node.name for node in Graph(fp32).of_type("MatMul") if node.input[1] in Graph(fp32).constants][:2]
    artifact = quantize_onnx(fp32, tmp_path / "out", calibration=calibration, left_out=names, lineage={"why": "a test"})
    products, others = Graph(artifact).products()
    assert set(names) <= {node.name for node in others}
    assert len(products) == WEIGHT_PRODUCTS - 2
    assert (artifact.lineage["left_out"], artifact.lineage["why"]) == (names, "a test")


def test_labels_and_other_lengths_in_calibration_do_no_harm(
    fp32: Artifact, calibration: list[Batch], tmp_path: Path
) -> None:
    short = {name: value[:2, :5] for name, value in calibration[1].items()}
    labelled = [{**batch, "labels": torch.zeros(len(batch["input_ids"]))} for batch in (calibration[0], short)]
    assert run(quantize_onnx(fp32, tmp_path / "out", calibration=labelled), calibration).shape == (16, 2)


def save_by_hand(folder: Path, build: Callable[[], onnx.ModelProto], external: bool = False) -> Artifact:
    """An artifact of a graph that torch does not write; its specs do not matter here."""
    folder.mkdir()
    aside: dict[str, Any] = {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 0}
    onnx.save(build(), folder / "model.onnx", **(aside if external else {}))
    facts: dict[str, Any] = {"format": "onnx", "precision": "fp32", "target": None, "model_file": "model.onnx"}
    return write_artifact(folder, **facts, inputs=[], outputs=[])


def tables() -> onnx.ModelProto:
    """Four look-ups: of a large table, of a small one, and two of one that is large and shared; then a product."""
    generator = np.random.default_rng(0)
    sizes = {"large": (2**13, 8), "small": (2**12, 8), "shared": (2**13, 8), "weight": (8, 3)}
    looks_up = [("large", "a"), ("small", "b"), ("shared", "c"), ("shared", "d")]
    nodes = [helper.make_node("Gather", [table, "ids"], [out], name=f"look_{out}") for table, out in looks_up]
    nodes.append(helper.make_node("Sum", list("abcd"), ["rows"], name="sum"))
    nodes.append(helper.make_node("MatMul", ["rows", "weight"], ["y"], name="product"))
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "sequence", 3])],
        [numpy_helper.from_array(generator.normal(size=s).astype(np.float32), n) for n, s in sizes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("external", [False, True])
def test_large_tables_alone_are_held_in_int8_and_weights_beside_the_graph_come_into_it(
    tmp_path: Path, external: bool
) -> None:
    source = save_by_hand(tmp_path / "fp32", tables, external)
    assert ("model.onnx_data" in source.files) is external
    artifact = quantize_onnx(source, tmp_path / "int8", quantization="dynamic")
    assert set(artifact.files) == {"model.onnx"}
    constants = Graph(artifact).constants
    assert {name: constants[name].dtype for name in ("small", "shared")} == {"small": np.float32, "shared": np.float32}
    assert constants["large_int8"].dtype == np.int8
    assert "large" not in constants
    ids = {"ids": torch.arange(12).reshape(3, 4)}
    a, b = run(source, [ids]).ravel(), run(artifact, [ids]).ravel()
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


@pytest.mark.parametrize("target", ["cpu-x86", "cpu-arm"])
def test_convolutions_are_quantized_by_static_alone_with_their_outputs(tmp_path: Path, target: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 16, 2))
    images = {"input": torch.randn(4, 3, 6, 6)}
    fp32 = export_onnx(model, images, tmp_path / "fp32")
    static = Graph(quantize_onnx(fp32, tmp_path / "static", calibration=[images], target=target))
    (conv,) = static.of_type("Conv")
    assert static.dequantizer(conv.input[0]) is not None
    assert static.dequantizer(conv.input[1]) is not None
    assert [node.op_type for node in static.nodes if conv.output[0] in node.input] == ["QuantizeLinear"]
    dynamic = Graph(quantize_onnx(fp32, tmp_path / "dynamic", quantization="dynamic", target=target))
    assert len(dynamic.of_type("Conv")) == 1
    assert dynamic.of_type("ConvInteger") == []


def test_the_largest_sums_do_not_saturate(tmp_path: Path) -> None:
    """Weights and activations all at their largest: pairs of 8-bit products would overflow 16 bits."""
    model = nn.Linear(64, 4, bias=False)
    with torch.no_grad():
        model.weight.fill_(1.0)
    x = {"input": torch.full((2, 64), 3.0)}
    artifact = export_onnx(model, x, tmp_path / "out", precision="int8", calibration=[x], target="cpu-x86")
    np.testing.assert_allclose(run(artifact, [x]), 192.0, rtol=0.01)  # a step of the grid is 1/127
