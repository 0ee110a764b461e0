"""What the building process is asked and what it answers, as JSON files: nothing else passes between the two."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgefold.exporters.tensorrt.profiles import Shapes


@dataclass(frozen=True)
class BuildRequest:
    """One engine to build."""

    model: str
    """Path of the ONNX file."""
    model_sha256: tuple[str, ...]
    """Of the ONNX file and its external data."""
    engine: str
    """Path to write to."""
    cache: str
    """Folder of the engines and timings of earlier builds."""
    profiles: tuple[Shapes, ...]
    sparse: bool = False
    compute_capabilities: tuple[str, ...] = ()
    """Devices to compile for, as in "8.6", where no GPU is at hand; () is the GPU here."""
    workspace_bytes: int | None = None
    optimization_level: int | None = None

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    def decisive(self) -> dict[str, Any]:
        """All that the engine depends on, but for TensorRT and the device."""
        return {name: value for name, value in asdict(self).items() if name not in ("model", "engine", "cache")}


def read_request(path: Path) -> BuildRequest:
    fields = json.loads(path.read_text())
    for name in ("model_sha256", "profiles", "compute_capabilities"):
        fields[name] = tuple(fields[name])
    return BuildRequest(**fields)


@dataclass(frozen=True)
class BuildFacts:
    """How an engine came about, of JSON's types."""

    tensorrt: str
    """As in "TensorRT 10.3.0"."""
    module: str
    gpu: str | None
    compute_capability: str | None
    compute_capabilities: tuple[str, ...]
    precisions: tuple[str, ...]
    """What the parsed network has: "fp32", "fp16", "int8", ..."""
    network_layers: int
    """Before the builder fuses them."""
    layers: dict[str, Any] | None
    """`read_layers` of the finished engine; None where it cannot be opened, for want of a GPU."""
    build_s: float
    from_cache: bool = False
