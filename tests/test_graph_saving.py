"""save_graph: a file written weight by weight is the file that protobuf itself would write."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefold.errors import InputError
from edgefold.exporters.graph_saving import read_specs, save_graph

SIZES = (1, 3, 40, 127, 128, 5000, 70000)
"""Elements of the weights; the lengths of their fields take one to three bytes."""


@pytest.fixture
def proto() -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    weights = {f"w{size}": generator.normal(size=(size, 2)).astype(np.float32) for size in SIZES}
    weights["half"] = generator.normal(size=2000).astype(np.float16)
    nodes = [helper.make_node("Gather", [name, "ids"], [f"{name}_out"]) for name in weights]
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in weights.items()}
    outputs = [
        helper.make_tensor_value_info(f"{name}_out", kinds[name], ["n", 2] if value.ndim == 2 else ["n"])
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "many",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def arrays(model: onnx.ModelProto) -> dict[str, Any]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_a_file_says_what_the_model_said(proto: onnx.ModelProto, tmp_path: Path) -> None:
    model = onnx_ir.from_proto(proto)
    save_graph(model, tmp_path / "m.onnx", 20)
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]
    found = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(found, full_check=True)
    assert found.graph.node == proto.graph.node
    assert found.opset_import == proto.opset_import
    expected = arrays(proto)
    assert arrays(found).keys() == expected.keys()
    for name, value in arrays(found).items():
        assert value.dtype == expected[name].dtype
        np.testing.assert_array_equal(value, expected[name])
    np.testing.assert_array_equal(model.graph.initializers["w128"].const_value.numpy(), expected["w128"])  # as before


def test_above_the_limit_the_weights_stand_beside(proto: onnx.ModelProto, tmp_path: Path) -> None:
    save_graph(onnx_ir.from_proto(proto), tmp_path / "m.onnx", 20, single_file_bytes=600_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx_data"]
    assert (tmp_path / "m.onnx_data").stat().st_size >= 70000 * 8
    for name, value in arrays(onnx.load(tmp_path / "m.onnx")).items():
        np.testing.assert_array_equal(value, arrays(proto)[name])


def test_specs_name_dynamic_dimensions(proto: onnx.ModelProto) -> None:
    inputs, outputs = read_specs(onnx_ir.from_proto(proto))
    assert [(spec.name, spec.dtype, spec.shape) for spec in inputs] == [("ids", "int64", ("n",))]
    assert (outputs[0].shape, outputs[-1].dtype) == (("n", 2), "float16")


def test_another_opset_than_asked_for_is_refused(proto: onnx.ModelProto, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="wrote opset 20 where 17 was asked for; ask for opset=20"):
        save_graph(onnx_ir.from_proto(proto), tmp_path / "m.onnx", 17)


def test_newer_ir_versions_are_lowered(proto: onnx.ModelProto, tmp_path: Path) -> None:
    proto.ir_version = 11
    save_graph(onnx_ir.from_proto(proto), tmp_path / "m.onnx", 20)
    assert onnx.load(tmp_path / "m.onnx").ir_version == 10
