"""An aarch64 device under emulation: what it computes equals what this machine computes; its times are refused."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import SSHD, Loopback, loopback
from onnx import TensorProto, helper, numpy_helper, save

from edgefold.artifacts import Artifact, TensorSpec, write_artifact
from edgefold.errors import DeviceError
from edgefold.runtimes import benchmark_artifacts, open_session, read_remote_state, verify_outputs

FOLDER = os.environ.get("EDGEFOLD_AARCH64", "")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not Path(FOLDER, "python3").is_file() or SSHD is None,
        reason="EDGEFOLD_AARCH64 names no folder that tests/make_aarch64_device.sh made, or there is no sshd",
    ),
]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    with loopback(tmp_path / "loopback") as device:
        monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(device.folder / "ssh_config"))
        yield device
        assert device.wait_until_empty() == {}


def address(device: Loopback) -> str:
    return device.address(str(Path(FOLDER).absolute() / "python3"))


def make_int8(folder: Path) -> Artifact:
    """y = x @ W with both quantized, zero points 0: integers inside, so equality is exact."""
    weight = np.random.default_rng(1).integers(-127, 128, (64, 32)).astype(np.int8)
    constants = {"w": weight, "s": np.float32(0.05), "z": np.int8(0), "t": np.float32(0.01)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["a"]),
        helper.make_node("DequantizeLinear", ["w", "t", "z"], ["b"]),
        helper.make_node("MatMul", ["a", "b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    folder.mkdir()
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "model.onnx")
    inputs = [TensorSpec(name="x", dtype="float32", shape=("batch", 64))]
    outputs = [TensorSpec(name="y", dtype="float32", shape=("batch", 32))]
    return write_artifact(
        folder, format="onnx", precision="int8", target=None, model_file="model.onnx", inputs=inputs, outputs=outputs
    )


def test_outputs_equal_those_of_this_machine(
    device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    ids = {name: generator.integers(0, 9, (3, 4)) for name in ("input_ids", "attention_mask")}
    floats = {"x": generator.normal(size=(5, 64)).astype(np.float32)}
    cases: list[tuple[Artifact, dict[str, Any]]] = [
        (make_artifact(tmp_path / "fp32", external=True), ids),
        (make_int8(tmp_path / "int8"), floats),
    ]
    for artifact, feeds in cases:
        with open_session(artifact, device=address(device)) as there, open_session(artifact) as here:
            # float32 sums of at most 64 products, in another order
            assert verify_outputs(there.run, here.run, [feeds], tolerance=2e-5).passed


def test_its_times_are_refused(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    state = read_remote_state(address(device))
    assert state.emulated
    assert "aarch64" in state.system
    assert "asimddp" in state.instruction_sets
    artifact = make_artifact(tmp_path / "a")
    feeds = {name: np.ones((1, 4), np.int64) for name in ("input_ids", "attention_mask")}
    with pytest.raises(DeviceError, match=r"is emulated \(Linux .*aarch64.*say nothing.*edgefold verify --device"):
        benchmark_artifacts({"a": artifact}, feeds, device=address(device))
    assert not (device.store / "store").exists()
