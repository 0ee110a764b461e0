"""Two decoders as one graph: both sides of the switch compute what their own graph does, and share their weights."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgefold.errors import InputError
from edgefold.exporters.merged_decoders import SWITCH, merge_decoders

SHARED = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
PASTS = [f"past_key_values.0.{side}.key" for side in ("decoder", "encoder")]
PRESENTS = [name.replace("past_key_values", "present") for name in PASTS]


def info(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def save(path: Path, nodes: list[Any], ends: tuple[list[Any], list[Any]], weights: dict[str, np.ndarray]) -> Path:
    tensors = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, *ends, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def first(folder: Path, outputs: int = 3) -> Path:
    """x = tokens @ shared + offset: the decoder's keys; those of the source: hidden @ shared; logits: x @ own."""
    nodes = [
        helper.make_node("MatMul", ["tokens", "shared"], ["product"]),
        helper.make_node("Add", ["product", "offset"], [PRESENTS[0]]),
        helper.make_node("MatMul", ["encoder_hidden_states", "shared"], [PRESENTS[1]]),
        helper.make_node("MatMul", [PRESENTS[0], "own"], ["logits"]),
    ]
    ends = [info("logits", "batch", 1, "sequence", 3), info(PRESENTS[0], "batch", 1, "sequence", 4)]
    ends.append(info(PRESENTS[1], "batch", 1, 5, 4))
    inputs = [info("tokens", "batch", 1, "sequence", 4), info("encoder_hidden_states", "batch", 1, 5, 4)]
    weights = {"shared": SHARED, "offset": np.float32([1]), "own": SHARED[:, :3]}
    return save(folder / "first.onnx", nodes, (inputs, ends[:outputs]), weights)


def later(folder: Path, past: str = PASTS[1]) -> Path:
    """The same names for other things: x = past and tokens @ shared + offset, logits = their sum with the source's."""
    nodes = [
        helper.make_node("MatMul", ["tokens", "weight"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["keys"]),
        helper.make_node("Concat", [PASTS[0], "keys"], [PRESENTS[0]], axis=2),
        helper.make_node("ReduceSum", [past], ["sum"]),
        helper.make_node("Add", ["keys", "sum"], ["logits"]),
    ]
    inputs = [
        info("tokens", "batch", 1, "sequence", 4),
        info(PASTS[0], "batch", 1, "past", 4),
        info(past, "batch", 1, 5, 4),
    ]
    ends = [info("logits", "batch", 1, "sequence", 4), info(PRESENTS[0], "batch", 1, "past + sequence", 4)]
    weights = {"weight": SHARED, "offset": np.float32([-2])}
    return save(folder / "later.onnx", nodes, (inputs, ends), weights)


def run(path: Path, feeds: dict[str, np.ndarray], **more: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path)
    names = [value.name for value in session.get_outputs()]
    given = {value.name for value in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in {**feeds, **more}.items() if k in given}), strict=True))


def arrays(past: int, source: int) -> dict[str, np.ndarray]:
    sizes = {"tokens": 2, "encoder_hidden_states": 5, PASTS[0]: past, PASTS[1]: source}
    generator = np.random.default_rng(1)
    return {name: generator.normal(size=(2, 1, size, 4)).astype(np.float32) for name, size in sizes.items()}


@pytest.fixture
def merged(tmp_path: Path) -> Path:
    merge_decoders(first(tmp_path), later(tmp_path), tmp_path / "merged.onnx")
    return tmp_path / "merged.onnx"


def test_the_first_step_is_that_of_its_own_graph_and_reads_no_past(merged: Path) -> None:
    feeds = arrays(past=0, source=0)
    found = run(merged, feeds, **{SWITCH: np.array([False])})
    expected = run(merged.with_name("first.onnx"), feeds)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_later_step_is_that_of_its_own_graph_and_hands_the_source_on(merged: Path) -> None:
    feeds = arrays(past=3, source=5)
    found = run(merged, feeds, **{SWITCH: np.array([True])})
    expected = run(merged.with_name("later.onnx"), feeds)
    for name, value in {**expected, PRESENTS[1]: feeds[PASTS[1]]}.items():
        np.testing.assert_array_equal(found[name], value)


def test_equal_weights_are_there_once_and_equal_names_are_not_confused(merged: Path) -> None:
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(merged).graph.initializer}
    assert sorted(weights) == ["later/offset", "offset", "own", "shared"]
    assert (weights["offset"], weights["later/offset"]) == (1, -2)


def test_decoders_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"first step does not give present\.0\.decoder\.key"):
        merge_decoders(first(tmp_path, outputs=1), later(tmp_path), tmp_path / "out.onnx")
    with pytest.raises(InputError, match=r"neither give present\.0\.encoder\.key nor take past_key_values\.0\.encoder"):
        merge_decoders(first(tmp_path), later(tmp_path, past="other"), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_a_graph_with_branches_of_its_own_is_refused(merged: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The node decoder holds graphs of its own \(If\)"):
        merge_decoders(merged, later(tmp_path), tmp_path / "out.onnx")
