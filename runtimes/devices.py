"""What the device is and what state it is in, and inputs to measure a model with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.artifacts import TensorSpec
from edgefold.device_states import DeviceState
from edgefold.errors import InputError
from edgefold.runtimes.agent.facts import read_facts
from edgefold.runtimes.jetson import describe_jetson
from edgefold.runtimes.nvidia import read_gpu_states
from edgefold.runtimes.processors import (
    count_throttling,
    find_cpu_limit,
    find_governor,
    find_held_back_s,
    find_memory_limit,
    find_mhz,
    find_stolen_s,
    instruction_sets,
    name_processor,
)

USUAL_SIZES = {"choices": 4, "samples": 16_000, "frames": 512}
"""Of dimensions whose size nobody asks for: answers to choose from, samples of a wave (one second of most), frames of a
spectrogram."""


OTHER_IDS = 1000
"""Whole numbers below this, where no vocabulary says more."""


def read_device_state() -> DeviceState:
    """This machine as it is now; what cannot be read is left out."""
    return describe_device(read_facts()).model_copy(update={"gpus": read_gpu_states()})


def describe_device(facts: Mapping[str, Any]) -> DeviceState:
    """The state behind the raw facts of `read_facts`, taken here or on another device."""
    files = facts["files"]
    info = files["/proc/cpuinfo"]
    return DeviceState(
        processor=name_processor(info) or facts["machine"],
        instruction_sets=instruction_sets(info),
        cores=len(facts["cores"]),
        affinity=tuple(int(number) for number in facts["cores"]),
        governor=find_governor(facts["cores"]),
        mhz=find_mhz(facts["cores"], info),
        turbo=_turbo(files),
        smt={"0": False, "1": True}.get(files["/sys/devices/system/cpu/smt/active"].strip()),
        throttle_count=count_throttling(facts["cores"]),
        load_average=tuple(facts["load_average"]),
        cpu_limit=find_cpu_limit(facts["groups"]),
        held_back_s=find_held_back_s(facts["groups"]),
        memory_limit_bytes=find_memory_limit(facts["groups"]),
        stolen_s=find_stolen_s(files["/proc/stat"], facts["ticks_per_s"]),
        system=facts["system"],
        versions=facts["versions"],
        taken_at=facts["taken_at"],
        emulated=is_emulated(facts["architecture"], files["/proc/sys/kernel/arch"].strip()),
        jetson=describe_jetson(files, facts["answers"]),
    )


def _turbo(files: Mapping[str, str]) -> bool | None:
    """Whether cores may run faster than their base clock for a while; Intel's own driver tells the contrary."""
    allowed = files["/sys/devices/system/cpu/cpufreq/boost"].strip()
    forbidden = files["/sys/devices/system/cpu/intel_pstate/no_turbo"].strip()
    return {"1": True, "0": False}.get(allowed) if allowed else {"0": True, "1": False}.get(forbidden)


def is_emulated(architecture: str, kernel: str) -> bool:
    """Whether programs are of another architecture than the kernel; "" is a kernel before Linux 6.1, which tells none.

    A 32-bit program on the 64-bit kernel of its own family is not.
    """
    families = ({"x86_64", "i386", "i486", "i586", "i686"}, {"aarch64", "armv6l", "armv7l", "armv8l"})
    related = any({architecture, kernel} <= family for family in families)
    return bool(kernel) and architecture != kernel and not related


def example_inputs(
    specs: Sequence[TensorSpec],
    *,
    batch: int = 1,
    sequence: int = 128,
    past: int = 0,
    seed: int = 0,
    vocab_size: int | None = None,
    limits: Mapping[str, int] | None = None,
) -> dict[str, NDArray[Any]]:
    """Inputs of one size for measuring: random ids, masks of ones, positions in order, normal floats.

    Args:
        past: tokens that a model with a cache has read before, whose keys and values are inputs.
        vocab_size: tokens are drawn from all of it but the first; see `Artifact.vocab_size`. Where it is not known, and
            of whole numbers that are no tokens, from 1 to 999. Of BERT's vocabulary those were never trained: they make
            attention so peaked that its products meet subnormal numbers, and took small students 8 to 14 % longer.
        limits: what whole numbers stay below, from 0 on, by the name of the input; see `Artifact.limits`.

    Raises:
        InputError: an input has a dynamic dimension whose size is not known here.
    """
    known = {"batch": batch, "sequence": sequence, "encoder_sequence": sequence, "past": past}
    known |= {"past + sequence": past + sequence, **USUAL_SIZES}
    generator = np.random.default_rng(seed)
    return {spec.name: _example(spec, known, vocab_size, limits or {}, generator) for spec in specs}


def _example(
    spec: TensorSpec,
    known: dict[str, int],
    vocab_size: int | None,
    limits: Mapping[str, int],
    generator: np.random.Generator,
) -> NDArray[Any]:
    unknown = [size for size in spec.shape if isinstance(size, str) and size not in known]
    if unknown:
        raise InputError(
            f"Input {spec.name} has the dynamic dimension {unknown[0]}; only {', '.join(known)} can be filled in. Give "
            "arrays of your own."
        )
    shape = tuple(known[size] if isinstance(size, str) else size for size in spec.shape)
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return generator.standard_normal(shape).astype(spec.dtype)
    if spec.name in limits and spec.dtype != "bool":
        return generator.integers(0, max(1, limits[spec.name]), shape).astype(spec.dtype)
    if "mask" in spec.name:
        return np.ones(shape, spec.dtype)
    if "type" in spec.name or "bbox" in spec.name or spec.dtype == "bool":
        return np.zeros(shape, spec.dtype)
    if "position" in spec.name and shape:
        first = known["past"]
        return np.broadcast_to(np.arange(first, first + shape[-1], dtype=spec.dtype), shape).copy()
    are_tokens = spec.name.endswith("input_ids")
    most = (vocab_size if are_tokens else None) or min(OTHER_IDS, vocab_size or OTHER_IDS)
    return generator.integers(1, max(2, most), shape).astype(spec.dtype)
