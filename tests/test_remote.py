"""A device over SSH, for real: an sshd on the loopback, that measures what is sent to it."""

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from loopback import Loopback
from remote_devices import INPUTS, count_pieces, measure, needs_sshd
from typer.testing import CliRunner

from edgefold.artifacts import Artifact
from edgefold.cli.application import app
from edgefold.errors import DeviceError, InputError
from edgefold.ratios import paired_ratio
from edgefold.reports import Report
from edgefold.runtimes import benchmark_artifacts, read_device_state, read_remote_state
from edgefold.runtimes.remote.addresses import parse_address
from edgefold.runtimes.remote.connections import Connection

pytestmark = needs_sshd


def test_the_device_says_what_it_is(device: Loopback) -> None:
    state, here = read_remote_state(device.address()), read_device_state()
    same = ("processor", "instruction_sets", "cores", "governor", "cpu_limit", "system", "versions")
    assert [getattr(state, name) for name in same] == [getattr(here, name) for name in same]


def test_two_artifacts_are_measured_in_turns_there(device: Loopback, large: Artifact) -> None:
    reports = benchmark_artifacts(
        {"a": large, "b": large}, INPUTS, device=device.address(), min_duration_s=0.2, block_s=0.01
    )
    a, b = reports.values()
    assert set(a.blocks) == set(b.blocks)
    assert paired_ratio(a, b).basis == "cpu"
    assert 0.7 < paired_ratio(a, b).value < 1.4  # one model under two names
    assert a.address == device.address().partition(sys.executable)[0]
    assert (a.device, a.runtime, a.batch_size) == ("cpu", "onnxruntime", 2)
    assert f"onnxruntime on cpu of {a.address}, fp32" in str(a)
    assert a.settings["threads"] == 1
    assert a.before.system == read_device_state().system
    assert Report.model_validate_json(a.model_dump_json()) == a


def test_a_model_is_sent_once(device: Loopback, large: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = count_pieces(monkeypatch)
    measure(device, large)
    assert sum(sent) == large.size_bytes
    sent.clear()
    measure(device, large)
    assert sent == []


def test_two_clients_at_once(device: Loopback, large: Artifact) -> None:
    with Connection(parse_address(device.address())) as first:
        first.ask("lock", doing="waiting", wait_s=0)
        with pytest.raises(
            DeviceError, match=r"Another client is measuring.*from 127\.0\.0\.1, since .* within 0\.3 s"
        ):
            measure(device, large, wait_s=0.3)
        assert read_remote_state(device.address()).cores >= 1  # asking disturbs nobody much
        threading.Timer(1.0, first.close).start()
        assert len(measure(device, large, wait_s=30.0)["a"].times_s) == 5


def test_inputs_and_artifacts_that_do_not_fit_are_refused_before_anything_is_sent(large: Artifact) -> None:
    with pytest.raises(InputError, match="takes input_ids, attention_mask; got x"):
        benchmark_artifacts({"a": large}, {"x": np.ones(1)}, device="ssh://nowhere.invalid")
    with pytest.raises(InputError, match="at least one artifact"):
        benchmark_artifacts({}, INPUTS, device="ssh://nowhere.invalid")


def test_bench_on_the_command_line(device: Loopback, make_artifact: Callable[..., Artifact], tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "b").folder
    arguments = ["bench", str(folder), "--against", str(folder), "--seconds", "0.05", "--device", device.address()]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["ratio"]["basis"] == "cpu"
    assert {report["address"] for report in document["reports"]} == {device.address().partition(sys.executable)[0]}
    result = CliRunner().invoke(app, [*arguments[:-1], "ssh://u@127.0.0.1:1"])
    assert result.exit_code == 4
    assert result.stderr.startswith("edgefold: ssh://u@127.0.0.1:1 cannot be reached: nothing listens")
    assert result.stderr.count("\n") == 1
    result = CliRunner().invoke(app, [*arguments[:-1], "ssh://u:secret@h"])
    assert result.exit_code == 2
    assert "is no address of the form" in result.stderr
