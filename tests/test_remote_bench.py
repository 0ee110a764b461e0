"""`edgefold bench` on a device over SSH takes what it takes here: memory, concurrency, cores, batches, OpenVINO."""

import json
import os
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loopback import Loopback
from remote_devices import assert_the_next_run_is_fine, measure, needs_sshd
from typer.testing import CliRunner, Result

from edgefold.artifacts import Artifact, write_artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError, InputError
from edgefold.reports import Report
from edgefold.runtimes import benchmark_artifacts, open_session
from edgefold.runtimes.agent.messages import PROTOCOL
from edgefold.runtimes.remote import connections, measurement
from edgefold.runtimes.remote.addresses import parse_address

pytestmark = needs_sshd

Make = Callable[..., Artifact]
SMALL = {name: np.ones((2, 4), np.int64) for name in ("input_ids", "attention_mask")}
BRIEFLY: dict[str, Any] = {"warmup_s": 0.0, "min_duration_s": 0.0, "min_runs": 4}


def bench(device: Loopback, artifact: Artifact, *options: object) -> Result:
    given = ["bench", artifact.folder, "--device", device.address(), "--seconds", "0.01", "--sequence", 4, *options]
    return CliRunner().invoke(app, [str(word) for word in given])


def reports(result: Result) -> list[Report]:
    assert result.exit_code == 0, result.stderr
    fields = Report.model_fields
    found = json.loads(result.stdout)["reports"]
    return [Report.model_validate({name: value for name, value in one.items() if name in fields}) for one in found]


def for_openvino(artifact: Artifact) -> Artifact:
    names = ("format", "precision", "model_file", "inputs", "outputs")
    return write_artifact(artifact.folder, target="openvino", **{name: getattr(artifact, name) for name in names})


def test_memory_there_is_as_much_larger_as_the_weights(device: Loopback, make_artifact: Make, tmp_path: Path) -> None:
    large = 500_000
    sizes = {"small": 4, "large": large}
    found = {}
    for name, sequence in sizes.items():
        artifact = make_artifact(tmp_path / name, sequence=sequence)
        inputs = {spec.name: np.ones((1, sequence), np.int64) for spec in artifact.inputs}
        report = benchmark_artifacts({name: artifact}, inputs, device=device.address(), memory=True, **BRIEFLY)[name]
        assert report.memory is not None
        found[name] = report.memory.model_bytes
    weights = 3 * 4 * large
    assert found["large"] - found["small"] > weights
    assert device.runs() == []


def test_memory_concurrency_cores_and_batches_on_the_command_line(
    device: Loopback, make_artifact: Make, tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "a")
    core = max(os.sched_getaffinity(0))
    options = ("--memory", "--concurrency", 2, "--cores", core, "--batches", "1,3", "--scenario", "offline", "--json")
    result = bench(device, artifact, *options)
    found = reports(result)
    assert [report.batch_size for report in found] == [1, 3]
    for report in found:
        assert report.concurrency == 2
        assert report.throughput == pytest.approx(2 * report.batch_size / report.mean_s)
        assert (report.before.affinity, report.before.cores) == ((core,), 1)
        assert report.memory is not None
        assert report.memory.before_bytes > 10e6
        assert report.address == device.address().partition(sys.executable)[0]
    best = max(report.throughput for report in found)
    assert json.loads(result.stdout)["offline"] == {str(artifact.folder): best}


def test_openvino_there_computes_and_is_measured_as_here(device: Loopback, make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a", external=True)
    with (
        open_session(artifact, device=device.address(), runtime="openvino") as there,
        open_session(artifact, runtime="openvino") as here,
    ):
        np.testing.assert_array_equal(there.run(SMALL)["logits"], here.run(SMALL)["logits"], strict=True)
        assert there.settings() == here.settings()
        assert (there.runtime, there.device) == (here.runtime, here.device)
    (report,) = reports(bench(device, artifact, "--runtime", "openvino", "--memory", "--json"))
    assert (report.runtime, report.settings["inference_precision"]) == ("openvino", "f32")
    assert report.memory is not None
    shown = bench(device, artifact, "--runtime", "openvino").stdout
    assert "openvino on cpu of ssh://" in shown
    assert "computed in f32" in " ".join(shown.split())


def test_each_runs_in_the_runtime_that_it_is_for(device: Loopback, make_artifact: Make, tmp_path: Path) -> None:
    artifacts = {"a": make_artifact(tmp_path / "a"), "b": for_openvino(make_artifact(tmp_path / "b"))}
    found = benchmark_artifacts(artifacts, SMALL, device=device.address(), concurrency=2, **BRIEFLY)
    assert {label: report.runtime for label, report in found.items()} == {"a": "onnxruntime", "b": "openvino"}
    assert set(found["a"].blocks) == set(found["b"].blocks)


def test_a_device_without_openvino_says_so(device: Loopback, large: Artifact, tmp_path: Path) -> None:
    venv.create(device.folder / "without", with_pip=False)
    python = str(device.folder / "without" / "bin" / "python3")
    for options in ({}, {"memory": True}):
        with pytest.raises(
            DeviceError,
            match=rf"{python} on the device cannot import openvino .*{python} -m pip install openvino, "
            "or choose the runtime onnxruntime",
        ):
            measure(device, large, device.address(python), runtime="openvino", **options)
    with pytest.raises(DeviceError, match="on the device cannot import openvino"):
        open_session(large, device=device.address(python), runtime="openvino")
    assert_the_next_run_is_fine(device, large)


def test_what_a_device_cannot_do_is_refused(device: Loopback, make_artifact: Make, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "a")
    result = bench(device, artifact, "--cores", 4096)
    assert result.exit_code == 2
    assert "Cores 4096 were asked for; this process may use " in " ".join(result.stderr.split())
    with pytest.raises(InputError, match="threads=0 must be at least 1"):
        benchmark_artifacts({"a": artifact}, SMALL, device=device.address(), threads=0)
    with pytest.raises(InputError, match="threads cannot be told to spin"):
        benchmark_artifacts({"a": artifact}, SMALL, device=device.address(), runtime="openvino", spinning=True)
    assert "LoadGen drives sessions of this machine" in bench(device, artifact, "--loadgen").stderr


@pytest.mark.parametrize("runtime", ["tensorrt", "nothing"])
def test_runtimes_that_no_device_has_are_refused_before_anything_is_sent(
    runtime: str, make_artifact: Make, tmp_path: Path
) -> None:
    artifact = make_artifact(tmp_path / "a")
    with pytest.raises(InputError, match=f"On a device it is onnxruntime or openvino that runs; got .*{runtime}"):
        benchmark_artifacts({"a": artifact}, SMALL, device="ssh://nowhere.invalid", runtime=runtime)


def test_weighing_has_a_time_limit_and_leaves_nothing(device: Loopback, large: Artifact) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measurement, "WEIGH_LIMIT_S", 0.01)
        with pytest.raises(DeviceError, match=r"took longer than 0\.01 s and was stopped"):
            measure(device, large, memory=True)
    assert_the_next_run_is_fine(device, large)


def test_an_agent_that_speaks_an_older_protocol_is_refused(device: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PROTOCOL", PROTOCOL + 1)
    with pytest.raises(DeviceError, match=f"has protocol {PROTOCOL}, this edgefold {PROTOCOL + 1}; they do not fit"):
        connections.Connection(parse_address(device.address()))
