"""The device over SSH that tests share, and what is sent to it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def loopback_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An sshd on the loopback."""
    from loopback import loopback

    with loopback(tmp_path_factory.mktemp("loopback")) as device:
        yield device


@pytest.fixture
def device(loopback_device: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The device with an empty store, with which the next run has to be fine."""
    shutil.rmtree(loopback_device.store, ignore_errors=True)
    loopback_device.write_known_host(loopback_device.folder / "host_key.pub")
    monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(loopback_device.folder / "ssh_config"))
    yield loopback_device
    assert loopback_device.wait_until_empty() == {}


@pytest.fixture
def large(make_artifact: Callable[..., Any], tmp_path: Path) -> Any:
    """240 kB of weights."""
    from remote_devices import SEQUENCE

    return make_artifact(tmp_path / "a", sequence=SEQUENCE)
