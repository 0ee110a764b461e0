"""What doctor says of a device, from states that are made up."""

from typing import Any

import pytest

from edgefold.cli import device_examination
from edgefold.cli.device_examination import examine_device
from edgefold.cli.findings import Finding
from edgefold.device_states import DeviceState, JetsonState


def examine(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> dict[str, Finding]:
    known: dict[str, Any] = {
        "processor": "a processor",
        "instruction_sets": ("asimddp",),
        "cores": 6,
        "governor": "schedutil",
        "load_average": (0.0, 0.0, 0.0),
        "cpu_limit": None,
        "system": "Linux",
        "versions": {"onnxruntime": "1.23.2"},
        "taken_at": "2026-01-01T00:00:00+00:00",
    }
    monkeypatch.setattr(device_examination, "read_remote_state", lambda device: DeviceState(**{**known, **fields}))
    return {finding.what: finding for finding in examine_device("ssh://u@h", False)}


def test_a_board_that_is_none_of_nvidias(monkeypatch: pytest.MonkeyPatch) -> None:
    found = examine(monkeypatch)
    assert list(found) == ["connection", "onnxruntime", "openvino", "processor", "int8", "frequency governor"]
    assert found["onnxruntime"].found == "onnxruntime 1.23.2"
    assert (found["openvino"].found, found["openvino"].works) == ("not installed", True)
    assert "for --runtime openvino" in found["openvino"].advice
    assert found["int8"].works
    assert not found["frequency governor"].works


@pytest.mark.parametrize(("locked", "works"), [(True, True), (False, False), (None, False)])
def test_a_jetson(monkeypatch: pytest.MonkeyPatch, locked: bool | None, works: bool) -> None:
    jetson = JetsonState(
        model="NVIDIA Jetson Orin Nano", l4t="36.4.3", jetpack="6.2", power_mode="15W", clocks_locked=locked
    )
    found = examine(monkeypatch, jetson=jetson)
    assert found["board"].found == "NVIDIA Jetson Orin Nano, L4T 36.4.3, JetPack 6.2"
    assert found["power mode"].found == "15W"
    assert found["clocks"].works is works
    assert ("sudo jetson_clocks" in found["clocks"].advice) is not works
