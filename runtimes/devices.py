"""What the device is and what state it is in, and inputs to measure a model with."""

import os
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.reports import DeviceState

TOLD_INSTRUCTION_SETS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimddp",
    "i8mm",
    "sve",
)
"""Those that decide how fast int8 and bf16 are."""
PACKAGES = ("edgefold", "numpy", "onnxruntime", "onnxruntime-gpu")


def read_device_state() -> DeviceState:
    """The device as it is now; what cannot be read is left out."""
    info = _read(Path("/proc/cpuinfo"))
    return DeviceState(
        processor=_processor(info),
        instruction_sets=instruction_sets(info),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        governor=_read(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")).strip() or None,
        load_average=os.getloadavg(),
        cpu_limit=_cpu_limit(_read(Path("/sys/fs/cgroup/cpu.max"))),
        system=f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        versions={name: found for name in PACKAGES if (found := _version(name))},
        taken_at=datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    )


def instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """Those of TOLD_INSTRUCTION_SETS that a /proc/cpuinfo lists."""
    lines = (line for line in cpuinfo.splitlines() if line.lower().startswith(("flags", "features")))
    flags = set(next(lines, "").partition(":")[2].split())
    return tuple(name for name in TOLD_INSTRUCTION_SETS if name in flags)


def example_inputs(
    specs: Sequence[TensorSpec],
    *,
    batch: int = 1,
    sequence: int = 128,
    past: int = 0,
    seed: int = 0,
    vocab_size: int | None = None,
) -> dict[str, NDArray[Any]]:
    """Inputs of one size for measuring: random ids, masks of ones, positions in order, normal floats.

    Args:
        past: tokens that a model with a cache has read before, whose keys and values are inputs.
        vocab_size: ids are from 1 to 999, or below this where it is smaller; see `Artifact.vocab_size`.

    Raises:
        InputError: an input has a dynamic dimension whose size is not known here.
    """
    known = {"batch": batch, "sequence": sequence, "encoder_sequence": sequence, "past": past}
    known["past + sequence"] = past + sequence
    generator = np.random.default_rng(seed)
    ids_below = max(2, min(1000, vocab_size or 1000))
    return {spec.name: _example(spec, known, ids_below, generator) for spec in specs}


def _example(spec: TensorSpec, known: dict[str, int], ids_below: int, generator: np.random.Generator) -> NDArray[Any]:
    unknown = [size for size in spec.shape if isinstance(size, str) and size not in known]
    if unknown:
        raise InputError(
            f"Input {spec.name} has the dynamic dimension {unknown[0]}; only {', '.join(known)} can be filled in. Give "
            "arrays of your own."
        )
    shape = tuple(known[size] if isinstance(size, str) else size for size in spec.shape)
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return generator.standard_normal(shape).astype(spec.dtype)
    if "mask" in spec.name:
        return np.ones(shape, spec.dtype)
    if "type" in spec.name or spec.dtype == "bool":
        return np.zeros(shape, spec.dtype)
    if "position" in spec.name and shape:
        first = known["past"]
        return np.broadcast_to(np.arange(first, first + shape[-1], dtype=spec.dtype), shape).copy()
    return generator.integers(1, ids_below, shape).astype(spec.dtype)


def _processor(cpuinfo: str) -> str:
    for line in cpuinfo.splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_limit(cpu_max: str) -> float | None:
    """Cores from the control group's "quota period", where "max" is no limit."""
    parts = cpu_max.split()
    return int(parts[0]) / int(parts[1]) if len(parts) == 2 and parts[0].isdigit() else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
