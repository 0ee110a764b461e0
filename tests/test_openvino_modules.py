"""OpenVINO's packages are imported, and nobody is told."""

import subprocess
import sys

import pytest

from edgefold.openvino_modules import can_quantize

TOLD = """
import sys
from edgefold.openvino_modules import import_nncf, import_openvino
openvino, nncf = import_openvino(), import_nncf()
assert openvino.Core and nncf.quantize
from openvino.tools.ovc import telemetry
print(type(telemetry).__module__, "openvino_telemetry" in sys.modules)
"""


@pytest.mark.skipif(not can_quantize(), reason="needs openvino and nncf")
def test_neither_reports_its_use() -> None:
    result = subprocess.run([sys.executable, "-c", TOLD], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"], result.stderr


def test_what_is_not_installed_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgefold.openvino_modules.find_spec", lambda name: None if name == "nncf" else name)
    assert not can_quantize()
