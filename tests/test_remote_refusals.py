"""Devices that let nobody in, or cannot run the agent: the error says what to do."""

import sys
import venv
from pathlib import Path

import pytest
from loopback import Loopback
from remote_devices import assert_the_next_run_is_fine, measure, needs_sshd

from edgefold.artifacts import Artifact
from edgefold.errors import DeviceError
from edgefold.runtimes import read_remote_state
from edgefold.runtimes.remote.addresses import parse_address
from edgefold.runtimes.remote.bundling import Bundle, bundle_agent
from edgefold.runtimes.remote.connections import Connection

pytestmark = needs_sshd


def test_a_host_key_that_has_changed(device: Loopback) -> None:
    device.write_known_host(device.folder / "user_key.pub")
    with pytest.raises(DeviceError, match=r"host key is not the one known.*ssh-keygen -R"):
        read_remote_state(device.address())


def test_a_host_key_that_is_not_known(device: Loopback) -> None:
    (device.folder / "known_hosts").write_text("")
    with pytest.raises(DeviceError, match=r"host key is not known yet: connect once by hand"):
        read_remote_state(device.address())


def test_a_key_that_is_refused(device: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (device.folder / "ssh_config").read_text().replace("user_key", "host_key")
    (tmp_path / "ssh_config").write_text(settings)
    monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(tmp_path / "ssh_config"))
    with pytest.raises(DeviceError, match=r"refuses the key: put your public key there with ssh-copy-id"):
        read_remote_state(device.address())


def test_nothing_listens_there_and_no_such_host(device: Loopback) -> None:
    with pytest.raises(DeviceError, match="nothing listens at that port"):
        read_remote_state("ssh://u@127.0.0.1:1")
    with pytest.raises(DeviceError, match=r"no such host name.*ssh said: \S"):
        read_remote_state("ssh://u@nowhere.invalid")


def test_no_python(device: Loopback) -> None:
    with pytest.raises(DeviceError, match=r"has no Python at /nowhere/python3 .*install Python 3\.8 or newer"):
        read_remote_state(device.address("/nowhere/python3"))


def write_program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_no_onnxruntime(device: Loopback, large: Artifact) -> None:
    venv.create(device.folder / "bare", with_pip=False)
    python = str(device.folder / "bare" / "bin" / "python3")
    with pytest.raises(
        DeviceError, match=rf"{python} on the device cannot import onnxruntime .*{python} -m pip install"
    ):
        measure(device, large, device.address(python))
    assert_the_next_run_is_fine(device, large)


def test_a_python_that_prints_first_and_one_that_is_too_old(device: Loopback) -> None:
    chatty = write_program(device.folder / "chatty", f'echo "Welcome to {{"; echo 17; exec {sys.executable} "$@"')
    assert read_remote_state(device.address(chatty)).cores >= 1
    old = write_program(device.folder / "old", 'echo "edgefold-agent: Python 3.6.9 is too old" >&2; exit 1')
    with pytest.raises(DeviceError, match=r"cannot run the agent: Python 3\.6\.9 is too old"):
        read_remote_state(device.address(old))
    strange = write_program(device.folder / "strange", 'echo "this account is closed"; exit 5')
    with pytest.raises(DeviceError, match=r"ssh ended with status 5\. It said: this account is closed"):
        read_remote_state(device.address(strange))


def test_an_agent_of_another_version(device: Loopback) -> None:
    other = Bundle(bundle_agent().source, "9.9")
    with pytest.raises(DeviceError, match=r"has version \S+, this edgefold 9\.9; they do not fit"):
        Connection(parse_address(device.address()), other)
