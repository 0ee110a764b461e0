"""What the device is and what state it is in, and inputs to measure a model with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.reports import DeviceState
from edgefold.runtimes.agent.facts import read_facts
from edgefold.runtimes.jetson import describe_jetson

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


def read_device_state() -> DeviceState:
    """This machine as it is now; what cannot be read is left out."""
    return describe_device(read_facts())


def describe_device(facts: Mapping[str, Any]) -> DeviceState:
    """The state behind the raw facts of `read_facts`, taken here or on another device."""
    files = facts["files"]
    info = files["/proc/cpuinfo"]
    return DeviceState(
        processor=_processor(info) or facts["machine"],
        instruction_sets=instruction_sets(info),
        cores=facts["cores"],
        governor=files["/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"].strip() or None,
        load_average=tuple(facts["load_average"]),
        cpu_limit=_cpu_limit(files["/sys/fs/cgroup/cpu.max"]),
        system=facts["system"],
        versions=facts["versions"],
        taken_at=facts["taken_at"],
        emulated=is_emulated(facts["architecture"], files["/proc/sys/kernel/arch"].strip()),
        jetson=describe_jetson(files, facts["answers"]),
    )


def is_emulated(architecture: str, kernel: str) -> bool:
    """Whether programs are of another architecture than the kernel; "" is a kernel before Linux 6.1, which tells none.

    A 32-bit program on the 64-bit kernel of its own family is not.
    """
    families = ({"x86_64", "i386", "i486", "i586", "i686"}, {"aarch64", "armv6l", "armv7l", "armv8l"})
    related = any({architecture, kernel} <= family for family in families)
    return bool(kernel) and architecture != kernel and not related


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
    return ""


def _cpu_limit(cpu_max: str) -> float | None:
    """Cores from the control group's "quota period", where "max" is no limit."""
    parts = cpu_max.split()
    return int(parts[0]) / int(parts[1]) if len(parts) == 2 and parts[0].isdigit() else None
