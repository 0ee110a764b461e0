"""`edgefold doctor` looks at devices over SSH, and says what is missing there."""

import json
import venv
from typing import Any

import pytest
from loopback import Loopback
from remote_devices import measure, needs_sshd
from typer.testing import CliRunner

from edgefold.artifacts import Artifact
from edgefold.cli.application import app
from edgefold.runtimes import read_device_state

pytestmark = needs_sshd


def doctor(*arguments: str) -> tuple[int, dict[str, Any]]:
    result = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_doctor_looks_at_devices(device: Loopback, large: Artifact) -> None:
    measure(device, large)
    status, document = doctor("--device", device.address(), "--clear")
    assert status == 0
    found = {finding["what"]: finding for finding in document["devices"][device.address()]}
    assert found["connection"]["found"] == read_device_state().system
    assert found["store"]["found"] == "emptied"
    assert not list((device.store / "store").iterdir())
    assert found["onnxruntime"]["works"]
    assert found["processor"]["found"].startswith(read_device_state().processor)


def test_doctor_exits_4_where_a_device_cannot_be_reached(device: Loopback) -> None:
    status, document = doctor("--device", device.address(), "--device", "ssh://u@127.0.0.1:1")
    assert status == 4
    (only,) = document["devices"]["ssh://u@127.0.0.1:1"]
    assert (only["what"], only["works"]) == ("connection", False)
    assert "nothing listens at that port" in only["advice"]
    assert document["devices"][device.address()][0]["works"]
    text = CliRunner().invoke(app, ["doctor", "--device", "ssh://u@127.0.0.1:1"]).stdout
    assert "nothing listens" in " ".join(text.split())


def test_doctor_tells_a_device_without_a_runtime(device: Loopback) -> None:
    venv.create(device.folder / "empty", with_pip=False)
    address = device.address(str(device.folder / "empty" / "bin" / "python3"))
    status, document = doctor("--device", address)
    (runtime,) = [finding for finding in document["devices"][address] if finding["what"] == "onnxruntime"]
    assert status == 0
    assert (runtime["found"], runtime["works"]) == ("not installed", False)
    assert "pip install onnxruntime" in runtime["advice"]


@pytest.mark.parametrize("arguments", [["--device", "jetson"], ["--device", "ssh://a b"], ["--clear"]])
def test_doctor_refuses_what_is_no_address(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["doctor", *arguments])
    assert result.exit_code == 2
    assert "ssh://user@host" in result.stderr
