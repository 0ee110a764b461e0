"""Which TensorRT is found, and what is said when none is."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from edgefold.errors import DeviceError
from edgefold.tensorrt_modules import RUNNERS, VARIABLE, describe, import_tensorrt, is_rtx


def a_module(name: str, **members: Any) -> Any:
    module: Any = ModuleType(name)
    vars(module).update(members)
    return module


def test_the_first_that_is_a_tensorrt_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    first, second = a_module("tensorrt"), a_module("tensorrt_rtx", Runtime=object, __version__="1.7.1")
    monkeypatch.setitem(sys.modules, "tensorrt", first)  # an empty package under that name, as some distributions have
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", second)
    found = import_tensorrt(RUNNERS)
    assert (found, is_rtx(found), describe(found)) == (second, True, "TensorRT-RTX 1.7.1")


def test_the_environment_decides_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "my_tensorrt")
    with pytest.raises(DeviceError, match=r"\(my_tensorrt: No module named 'my_tensorrt'\). Install one on a Jetson"):
        import_tensorrt()
    monkeypatch.setitem(sys.modules, "my_tensorrt", a_module("my_tensorrt", Runtime=object, __version__="10.3.0"))
    assert describe(import_tensorrt()) == "TensorRT 10.3.0"


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Any:
        raise OSError("libnvdla_compiler.so: cannot open shared object file")

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr("edgefold.tensorrt_modules.import_module", load)
    with pytest.raises(DeviceError, match=r"tensorrt: libnvdla_compiler.so: cannot open.*python3-libnvinfer"):
        import_tensorrt()
    monkeypatch.setattr("edgefold.tensorrt_modules.import_module", lambda name: SimpleNamespace())
    with pytest.raises(DeviceError, match="tensorrt: has no Runtime, so it is no TensorRT"):
        import_tensorrt(["tensorrt"])
