"""A graph whose weights stay in its file is the same graph, byte for byte, and computes the same."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefold.exporters import mapped_graphs, parity
from edgefold.exporters.mapped_graphs import map_floats
from edgefold.exporters.parity import open_graph

SIZE = 24


@pytest.fixture
def chain(tmp_path: Path) -> Callable[..., Path]:
    """y = x W V, with a weight too small to be left in the file and one of integers on demand."""

    def make(dtype: Any = np.float32) -> Path:
        generator = np.random.default_rng(0)
        weights = [
            numpy_helper.from_array(generator.normal(size=(SIZE, SIZE)).astype(np.float32), "W"),
            numpy_helper.from_array(generator.normal(size=(SIZE, SIZE)).astype(dtype), "V"),
            numpy_helper.from_array(np.ones(SIZE, np.float32), "small"),
        ]
        nodes = [
            helper.make_node("MatMul", ["x", "W"], ["h"]),
            helper.make_node("Cast", ["V"], ["v"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["h", "v"], ["g"]),
            helper.make_node("Add", ["g", "small"], ["y"]),
        ]
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SIZE]) for name in ("x", "y")]
        graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        onnx.save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return make


def test_every_large_weight_is_told_by_where_it_lies(chain: Callable[..., Path]) -> None:
    path = chain()
    mapped, whole = map_floats(path), onnx.load(path)
    assert mapped is not None
    content, left = path.read_bytes(), {}
    for tensor in mapped.graph.initializer:
        if tensor.external_data:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            begin = int(entries["offset"])
            left[tensor.name] = content[begin : begin + int(entries["length"])]
            assert (entries["location"], tensor.raw_data) == (path.name, b"")
            tensor.raw_data = left[tensor.name]
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
            tensor.ClearField("data_location")
    assert left.keys() == {"W", "V"}
    assert mapped == whole


def test_a_few_constants_of_another_type_are_read(chain: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped_graphs, "MOST_OTHERS", 0.9)
    mapped = map_floats(chain(np.int64))
    assert mapped is not None
    inside = {tensor.name: len(tensor.raw_data) for tensor in mapped.graph.initializer}
    assert inside == {"W": 0, "V": SIZE * SIZE * 8, "small": SIZE * 4}


def test_it_computes_the_same(chain: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    path = chain()
    feeds = {"x": np.random.default_rng(1).normal(size=(3, SIZE)).astype(np.float32)}
    (expected,) = open_graph(path).run(None, feeds)
    monkeypatch.setattr(parity, "MAPPED_BYTES", 0)
    (found,) = open_graph(path).run(None, feeds)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)  # sums of float32 in another order


def test_graphs_with_integer_weights_are_read_as_ever(chain: Callable[..., Path]) -> None:
    assert map_floats(chain(np.int64)) is None
