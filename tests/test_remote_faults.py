"""Connections that drop and processes that die on a device over SSH: said what it was, nothing left, and on."""

import os
import signal

import numpy as np
import onnx
import pytest
from loopback import Loopback
from onnx import numpy_helper
from remote_devices import (
    AGENT,
    WORKER,
    Attempt,
    assert_the_next_run_is_fine,
    count_pieces,
    measure,
    needs_sshd,
    ssh_client,
)

from edgefold.artifacts import Artifact, write_artifact
from edgefold.errors import DeviceError

pytestmark = needs_sshd


def test_a_connection_dropped_in_upload_is_resumed(device: Loopback, large: Artifact) -> None:
    with pytest.MonkeyPatch.context() as patch:
        count_pieces(patch, kill_after=10)
        with pytest.raises(DeviceError, match=r"lost its connection .*while sending model\.onnx.*run the same command"):
            measure(device, large)
    assert device.wait_until_empty() == {}
    (part,) = (device.store / "store").glob("*.part")
    assert part.stat().st_size == 9 * 4000
    with pytest.MonkeyPatch.context() as patch:
        sent = count_pieces(patch)
        assert_the_next_run_is_fine(device, large)
    assert sum(sent) == large.size_bytes - 9 * 4000


def test_a_model_of_many_zeros_is_small_on_its_way(device: Loopback, large: Artifact) -> None:
    model = onnx.load(large.model_path)
    (weight,) = model.graph.initializer
    values = numpy_helper.to_array(weight).copy()
    values[np.random.default_rng(0).random(values.shape) < 0.9] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, large.model_path)
    sparse = write_artifact(
        large.folder,
        format="onnx",
        precision="fp32",
        target=None,
        model_file="model.onnx",
        inputs=large.inputs,
        outputs=large.outputs,
    )
    with pytest.MonkeyPatch.context() as patch:
        sent = count_pieces(patch)
        assert_the_next_run_is_fine(device, sparse)
    assert sum(sent) < 0.25 * sparse.size_bytes
    (stored,) = (device.store / "store").iterdir()
    assert stored.read_bytes() == sparse.model_path.read_bytes()


@pytest.mark.parametrize(
    ("side", "said"), [("here", "ssh here was ended by signal 9"), ("there", "closed by remote host")]
)
def test_a_connection_dropped_in_bench_leaves_nothing_running(
    device: Loopback, large: Artifact, side: str, said: str
) -> None:
    attempt = Attempt(device, large)
    attempt.wait_for(WORKER)
    if side == "here":
        os.kill(ssh_client(device), signal.SIGKILL)
    else:
        device.drop_connections()
    assert "lost its connection (" in attempt.end()
    assert said in str(attempt.error)
    assert "while measuring" in str(attempt.error)
    assert device.wait_until_empty() == {}
    assert device.runs() == []
    assert_the_next_run_is_fine(device, large)


def test_a_killed_agent_takes_its_worker_with_it(device: Loopback, large: Artifact) -> None:
    attempt = Attempt(device, large)
    attempt.wait_for(WORKER)
    os.kill(attempt.wait_for(AGENT), signal.SIGKILL)
    assert "the agent was killed there" in attempt.end()
    assert device.wait_until_empty() == {}
    assert_the_next_run_is_fine(device, large)


def test_a_killed_worker_is_told_apart(device: Loopback, large: Artifact) -> None:
    attempt = Attempt(device, large)
    os.kill(attempt.wait_for(WORKER), signal.SIGKILL)
    assert "measuring process on the device ended by signal 9" in attempt.end()
    assert "memory ran out" in str(attempt.error)
    assert_the_next_run_is_fine(device, large)


def test_measuring_has_a_time_limit(device: Loopback, large: Artifact) -> None:
    with pytest.raises(DeviceError, match=r"took longer than 0\.5 s and was stopped"):
        measure(device, large, procedure={"min_duration_s": 600.0}, limit_s=0.5)
    assert_the_next_run_is_fine(device, large)
