"""The linter names the node, and says of each TensorRT what its documentation or its parser says."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_graphs import conv_net, decoder, encoder, model_of, one_node, product, value

from edgefold.errors import InputError
from edgefold.exporters import lint_onnx
from edgefold.exporters.tensorrt.operators import FIRST
from edgefold.exporters.tensorrt.parser_targets import read_target

TARGETS = ("tensorrt-8.5", "tensorrt-8.6", "tensorrt-10", "tensorrt-10.16", "tensorrt-11.4", "tensorrt-rtx")


def lint(model: onnx.ModelProto, folder: Path, target: str) -> Any:
    onnx.save(model, folder / "model.onnx")
    (answer,) = lint_onnx(folder / "model.onnx", target)
    return answer


def refused(model: onnx.ModelProto, folder: Path, target: str) -> list[tuple[str, str]]:
    return [(complaint.node, complaint.what) for complaint in lint(model, folder, target).refused]


@pytest.mark.parametrize("target", TARGETS[2:])
@pytest.mark.parametrize("make", [encoder, decoder, conv_net, product])
def test_plain_models_of_opset_20_pass_from_tensorrt_10_on(make: Any, target: str, tmp_path: Path) -> None:
    assert refused(make(), tmp_path, target) == []


@pytest.mark.parametrize(
    ("operator", "takes"),
    [
        ("LayerNormalization", (False, True, True, True, True, True)),
        ("Gelu", (False, False, True, True, True, True)),
        ("NonZero", (True, True, True, True, True, False)),
        ("Det", (False,) * 6),
        ("DynamicQuantizeLinear", (False,) * 6),
        ("Erf", (True,) * 6),
    ],
)
def test_each_version_takes_its_operators(operator: str, takes: tuple[bool, ...], tmp_path: Path) -> None:
    found = tuple(not refused(one_node(operator), tmp_path, target) for target in TARGETS)
    assert found == takes


def test_what_to_do_is_said(tmp_path: Path) -> None:
    ((node, what),) = refused(one_node("LayerNormalization", opset=17), tmp_path, "tensorrt-8.5")
    assert node == "the_LayerNormalization"
    assert what == (
        "is not taken by its parser before TensorRT 8.6; export with an opset of 16 or below, which writes it as its "
        "parts"
    )


def test_every_operator_of_the_table_is_one_of_onnx() -> None:
    old = {"ImageScaler", "ParametricSoftplus", "ScaledTanh"}  # of ONNX before 1.0; the parser still takes them
    known = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if schema.domain == ""}
    assert set(FIRST) - known <= old


def test_only_what_uses_the_newer_form_is_refused(tmp_path: Path) -> None:
    axes = helper.make_node("ReduceMean", ["y", "axes"], ["z"], name="mean", keepdims=0)
    model = product()
    model.graph.node.append(axes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axes"))
    model.graph.output.append(value("z", ("batch",)))
    ((node, what),) = refused(model, tmp_path, "tensorrt-8.6")
    assert (node, what) == ("mean", "uses axes of opset 18, newer than the parser's 17; export with opset 17")
    answer = lint(product(), tmp_path, "tensorrt-8.6")
    assert [c.verdict for c in answer.complaints] == ["warned", "warned"]
    assert "is of opset 20; tensorrt-8.6 documents opset 17" in answer.complaints[0].what
    assert "is of IR version 10, newer than the 8" in answer.complaints[1].what


def test_reductions_need_constant_axes(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], name="sum")
    model = model_of([node], [value("x", ("batch", 8)), value("axes", (1,), TensorProto.INT64)], [value("y", None)])
    assert refused(model, tmp_path, "tensorrt-10.3") == [
        ("sum", "takes axes from a computation; it must be a constant")
    ]


@pytest.mark.parametrize(
    ("zero", "says"),
    [
        (np.int8(0), None),
        (np.int8(3), "has the zero point int8 3; only 0 is supported"),
        (np.uint8(128), "has the zero point uint8 128; only 0 is supported"),
        (np.uint8(0), "is of uint8, which is read as int8"),
    ],
)
def test_zero_points_are_zero_and_signed(zero: Any, says: str | None, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dequantize"),
    ]
    constants = {"scale": np.array(0.1, np.float32), "zero": np.array(zero)}
    model = model_of(nodes, [value("x", ("batch", 8))], [value("y", ("batch", 8))], constants)
    found = refused(model, tmp_path, "tensorrt-10.3")
    assert [node for node, _ in found] == (["quantize", "dequantize"] if says else [])
    assert all(str(says) in what for _, what in found)


def test_quantized_constants_go_to_dequantize_alone(tmp_path: Path) -> None:
    gather = helper.make_node("Gather", ["table", "ids"], ["rows"], name="look_up")
    back = helper.make_node("DequantizeLinear", ["rows", "scale"], ["y"], name="back")
    bias = helper.make_node("DequantizeLinear", ["bias", "scale"], ["z"], name="bias_back")
    constants = {"table": np.ones((4, 8), np.int8), "scale": np.array(0.1, np.float32), "bias": np.ones(8, np.int32)}
    ends = ([value("ids", ("batch",), TensorProto.INT64)], [value("y", None), value("z", None)])
    assert refused(model_of([gather, back, bias], *ends, constants), tmp_path, "tensorrt-10.3") == [
        ("look_up", "takes the quantized constant table, which only DequantizeLinear may"),
        ("bias_back", "dequantizes int32; only int8 and narrower is taken"),
    ]


def test_a_missing_zero_point_means_uint8(tmp_path: Path) -> None:
    node = helper.make_node("QuantizeLinear", ["x", "scale"], ["y"], name="quantize")
    model = model_of([node], [value("x", ("batch", 8))], [value("y", None)], {"scale": np.array(0.1, np.float32)})
    assert "has no zero point, so it gives uint8" in refused(model, tmp_path, "tensorrt-10.3")[0][1]


@pytest.mark.parametrize(
    ("kind", "since"),
    [(TensorProto.BFLOAT16, "tensorrt-10"), (TensorProto.INT16, None), (TensorProto.STRING, None)],
)
def test_element_types(kind: int, since: str | None, tmp_path: Path) -> None:
    model = one_node("Identity", kind)
    accepted = [target for target in TARGETS if not refused(model, tmp_path, target)]
    assert accepted == (list(TARGETS[TARGETS.index(since) :]) if since else [])


def test_float64_and_int64_are_warned_of(tmp_path: Path) -> None:
    answer = lint(product(kind=np.float64), tmp_path, "tensorrt-10.3")
    assert {(c.node, c.verdict) for c in answer.complaints if "double" in c.what} == {
        (name, "warned") for name in ("x", "y", "w")
    }
    whats = " ".join(c.what for c in lint(encoder(), tmp_path, "tensorrt-8.6").complaints)
    assert "takes int64 (input_ids, attention_mask), bound as int32 there" in whats
    assert "int64" not in " ".join(c.what for c in lint(encoder(), tmp_path, "tensorrt-10").complaints)


def test_sparse_tensors_and_foreign_domains(tmp_path: Path) -> None:
    model = product()
    dense = model.graph.initializer.pop()
    places = onnx.numpy_helper.from_array(np.array([0, 5]))
    values = onnx.numpy_helper.from_array(np.ones(2, np.float32), dense.name)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [8, 8]))
    assert refused(model, tmp_path, "tensorrt-11.4") == [
        ("w", "is a sparse_initializer, which the parser does not read; store it dense")
    ]
    foreign = one_node("FusedGelu", domain="com.microsoft")
    ((node, what),) = refused(foreign, tmp_path, "tensorrt-rtx")
    assert node == "the_FusedGelu"
    assert "export without what only ONNX Runtime runs" in what


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: None, None),
        (lambda folder: (folder / "weights").unlink(), "which is missing"),
        (lambda folder: (folder / "weights").write_bytes(b"short"), "needs 256 bytes of weights, which has 5"),
    ],
)
def test_external_data_is_there_and_whole(spoil: Any, says: str | None, tmp_path: Path) -> None:
    external = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    onnx.save(product(), tmp_path / "model.onnx", **external)
    spoil(tmp_path)
    (answer,) = lint_onnx(tmp_path / "model.onnx", "tensorrt-10")
    assert [says in c.what for c in answer.refused] == ([True] if says else [])


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    external = {"save_as_external_data": True, "location": "weights", "size_threshold": 0}
    (tmp_path / "inner").mkdir()
    onnx.save(product(), tmp_path / "inner" / "model.onnx", **external)
    model = onnx.load(tmp_path / "inner" / "model.onnx", load_external_data=False)
    next(e for e in model.graph.initializer[0].external_data if e.key == "location").value = "../weights"
    (tmp_path / "inner" / "model.onnx").write_bytes(model.SerializeToString())
    (answer,) = lint_onnx(tmp_path / "inner" / "model.onnx", "tensorrt-10")
    assert [c.what for c in answer.refused] == [
        "keeps its data in ../weights, outside the model's folder; copy it there"
    ]


def test_branches_and_functions_are_looked_into(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("Det", ["x"], ["d"], name="inside")], "branch", [], [value("d", None)])
    node = helper.make_node("If", ["condition"], ["y"], name="either", then_branch=branch, else_branch=branch)
    inputs = [value("condition", (), TensorProto.BOOL), value("x", ("batch", 8))]
    answer = lint(model_of([node], inputs, [value("y", None)]), tmp_path, "tensorrt-10.3")
    assert {complaint.node for complaint in answer.refused} == {"inside"}
    assert ("either", "splits the graph: nothing is fused across it") in [(c.node, c.what) for c in answer.complaints]

    own = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [])
    model = one_node("Twice", domain="own")
    model.functions.append(own)
    assert "inline it" in refused(model, tmp_path, "tensorrt-8.6")[0][1]
    assert refused(model, tmp_path, "tensorrt-10") == []


def test_attention_has_no_kernel_in_fp32_on_rtx(tmp_path: Path) -> None:
    def attention(kind: int, more: tuple[str, ...] = ()) -> onnx.ModelProto:
        node = helper.make_node("Attention", ["q", "k", "v", *more], ["y"], name="attend")
        inputs = [value(name, ("batch", 2, 4, 8), kind) for name in ("q", "k", "v", *(m for m in more if m))]
        return model_of([node], inputs, [value("y", None, kind)], opset=23)

    assert "has no kernel in fp32" in refused(attention(TensorProto.FLOAT), tmp_path, "tensorrt-rtx")[0][1]
    assert refused(attention(TensorProto.FLOAT16), tmp_path, "tensorrt-rtx") == []
    cached = attention(TensorProto.FLOAT16, ("", "past_key", "past_value"))
    assert refused(cached, tmp_path, "tensorrt-11.4") == [
        ("attend", "has past_key, past_value, which Attention does not support there")
    ]


@pytest.mark.parametrize("name", ["tensorrt-8.4", "tensorrt-7", "tensorrt", "onnx", "tensorrt-x"])
def test_unknown_targets_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"There is no TensorRT '{name}' to check for; give tensorrt-8.5 or later"):
        read_target(name)


def test_the_newest_documented_opset_rises_with_the_version() -> None:
    opsets = [read_target(target).opset for target in TARGETS[:-1]]
    assert opsets == sorted(opsets)
    assert opsets[:2] == [17, 17]


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="is no ONNX model"):
        lint_onnx(tmp_path / "model.onnx", "tensorrt-10")
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="neither nodes nor outputs"):
        lint_onnx(tmp_path / "model.onnx", "tensorrt-10")


def test_the_linter_needs_no_torch() -> None:
    code = "import sys, edgefold.exporters.tensorrt.linting; assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
