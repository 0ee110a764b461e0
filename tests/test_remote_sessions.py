"""A session on a device over SSH computes what one here does, and ends with its process."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Loopback
from remote_devices import WORKER, needs_sshd
from typer.testing import CliRunner

from edgefold.artifacts import Artifact, write_artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError, InputError
from edgefold.runtimes import benchmark, open_session

pytestmark = needs_sshd


def small_feeds(rows: int = 2, seed: int = 0) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {name: generator.integers(0, 9, (rows, 4)) for name in ("input_ids", "attention_mask")}


def test_a_session_there_computes_what_one_here_does(
    device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "b", external=True)
    with open_session(artifact, device=device.address()) as there, open_session(artifact) as here:
        for rows in (1, 3):
            feeds = small_feeds(rows, seed=rows)
            np.testing.assert_array_equal(there.run(feeds)["logits"], here.run(feeds)["logits"], strict=True)
        with pytest.raises(InputError, match=r"input_ids must have the shape \(batch, 4\)"):
            there.run({name: array[:, :2] for name, array in small_feeds().items()})
        assert there.run(small_feeds())["logits"].shape == (2, 3)  # a refusal ends nothing
        names = ("label", "runtime", "device", "precision", "model_sha256", "inputs", "outputs")
        assert [getattr(there, name) for name in names] == [getattr(here, name) for name in names]
        assert there.settings() == here.settings()
        assert there.load_s > 0
    with pytest.raises(InputError, match="session of b is closed"):
        there.run(small_feeds())
    assert device.wait_until_empty() == {}
    assert device.runs() == []


def test_the_network_is_not_measured(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    with (
        open_session(make_artifact(tmp_path / "b"), device=device.address()) as there,
        pytest.raises(InputError, match=r"b is open on ssh://.*would be those of the network.*benchmark_artifacts"),
    ):
        benchmark(there, small_feeds())


def test_a_session_whose_process_dies(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "b")
    with open_session(artifact, device=device.address()) as there:
        (worker,) = (process for process, command in device.processes().items() if WORKER in command)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(DeviceError, match="ended by signal 9"):
            there.run(small_feeds())
    with open_session(artifact, device=device.address()) as there:
        assert there.run(small_feeds())["logits"].shape == (2, 3)


def test_a_model_that_does_not_open_there(
    device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "b")
    artifact.model_path.write_bytes(b"not a graph")
    names = ("format", "precision", "target", "model_file", "inputs", "outputs")
    broken = write_artifact(artifact.folder, **{name: getattr(artifact, name) for name in names})
    with pytest.raises(InputError, match="onnxruntime cannot open"):
        open_session(broken, device=device.address())
    assert device.wait_until_empty() == {}


def test_verify_on_the_command_line(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "b").folder
    result = CliRunner().invoke(
        app, ["verify", str(folder), "--against", str(folder), "--device", device.address(), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["outputs"]["logits"]["max_error"] == 0.0
