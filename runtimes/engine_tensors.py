"""What an opened engine says of its tensors: names, types, and between which shapes each profile runs."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError

Shape = tuple[int, ...]
DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT32": "int32",
    "INT64": "int64",
    "BOOL": "bool",
}
"""DataType -> numpy's name."""


class EngineTensors:
    """The inputs and outputs of an engine."""

    def __init__(self, trt: ModuleType, engine: Any, label: str) -> None:
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self.inputs = tuple(n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT)
        self.outputs = tuple(n for n in names if n not in self.inputs)
        self.dtypes = {name: _dtype(engine, name, label) for name in names}
        self._label = label
        self.profiles = tuple(
            {name: tuple(map(tuple, engine.get_tensor_profile_shape(name, index))) for name in self.inputs}
            for index in range(engine.num_optimization_profiles)
        )
        """Input -> least, usual and largest shape, for each profile."""

    def check_against(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        """Raises InputError where the artifact tells of other tensors than the engine has."""
        for kind, mine, told in (("inputs", self.inputs, inputs), ("outputs", self.outputs, outputs)):
            names = [spec.name for spec in told]
            if set(mine) != set(names):
                raise InputError(
                    f"{self._label}: the engine has the {kind} {', '.join(mine)}, its artifact.json says "
                    f"{', '.join(names)}; build it again."
                )

    def find_profile(self, shapes: Mapping[str, Shape]) -> int:
        """The first profile that these shapes fit.

        Raises:
            InputError: none does; which input is out of range, and what is in it.
        """
        for index, profile in enumerate(self.profiles):
            if all(_fits(shapes[name], least, largest) for name, (least, _, largest) in profile.items()):
                return index
        told = "; or ".join(
            ", ".join(
                f"{name} from {least} to {largest}"
                for name, (least, _, largest) in profile.items()
                if not _fits(shapes[name], least, largest)
            )
            for profile in self.profiles
        )
        came = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise InputError(f"{self._label} was not built for {came}; it takes {told}. Build it with wider ranges.")


def _dtype(engine: Any, name: str, label: str) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name).name
    if kind not in DTYPES:
        raise InputError(f"{label}: {name} is of {kind}, which numpy does not have; export it in float32 or float16.")
    if hasattr(engine, "get_tensor_location") and engine.get_tensor_location(name).name == "HOST":
        raise InputError(f"{label}: {name} is read on the host to compute shapes, which this session does not do.")
    return np.dtype(DTYPES[kind])


def _fits(shape: Shape, least: Shape, largest: Shape) -> bool:
    return len(shape) == len(least) and all(a <= size <= b for a, size, b in zip(least, shape, largest, strict=True))
