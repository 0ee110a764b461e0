"""What a device keeps of models: nothing corrupt, and no part of one where there is no space."""

import resource
from pathlib import Path

import pytest
from loopback import Loopback, loopback
from remote_devices import assert_the_next_run_is_fine, measure, needs_sshd

from edgefold.artifacts import Artifact
from edgefold.errors import DeviceError

pytestmark = needs_sshd


def test_an_upload_that_arrives_corrupt(device: Loopback, large: Artifact) -> None:
    content = large.model_path.read_bytes()
    large.model_path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DeviceError, match=r"arrived corrupt: its SHA-256 is .*Run the same command again"):
        measure(device, large)
    assert not list((device.store / "store").iterdir())
    large.model_path.write_bytes(content)
    assert_the_next_run_is_fine(device, large)


def test_what_lies_in_the_store_is_verified_too(device: Loopback, large: Artifact) -> None:
    measure(device, large)
    (stored,) = (device.store / "store").iterdir()
    stored.write_bytes(stored.read_bytes()[:-1] + b"x")
    assert_the_next_run_is_fine(device, large)


def test_a_full_disk(device: Loopback, large: Artifact) -> None:
    (device.store / "store").mkdir(parents=True)
    part = device.store / "store" / f"{large.files['model.onnx'].sha256}.part"
    part.symlink_to("/dev/full")  # the kernel's own ENOSPC
    with pytest.raises(DeviceError, match=r"no space for the model \(No space left on device\).*Free some there"):
        measure(device, large)
    assert_the_next_run_is_fine(device, large)


def test_a_limit_on_the_size_of_files(large: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    with loopback(tmp_path / "limited", before=limit) as limited:
        monkeypatch.setenv("EDGEFOLD_SSH_CONFIG", str(limited.folder / "ssh_config"))
        with pytest.raises(DeviceError, match=r"no space for the model \(File too large\)"):
            measure(limited, large)
        assert limited.wait_until_empty() == {}
        assert not list((limited.store / "store").iterdir())
