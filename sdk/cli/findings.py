"""What was found of a machine, line by line, and the advice that follows; the same for this one and for a device."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgefold.device_states import DeviceState

INT8_FAST = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


@dataclass(frozen=True)
class Finding:
    """One line of an examination."""

    what: str
    found: str
    works: bool
    advice: str = ""


def describe_processor(state: DeviceState) -> list[Finding]:
    """The processor, how it takes int8, and whether its clock is steady."""
    cores = f"{state.processor}, {state.cores} cores"
    limit = "" if state.cpu_limit is None else f", limited to {state.cpu_limit:g} by its control group"
    return [Finding("processor", cores + limit, True), _int8(state.instruction_sets), _governor(state.governor)]


def _int8(instruction_sets: Sequence[str]) -> Finding:
    """Whether this processor multiplies int8 with one instruction."""
    fast = [name for name in instruction_sets if name in INT8_FAST]
    if fast:
        return Finding("int8", f"fast ({', '.join(fast)})", True)
    advice = "no VNNI or dot product: int8 gains less, and sums may saturate; check with edgefold verify and bench"
    return Finding("int8", f"no instruction of its own ({', '.join(instruction_sets) or 'none known'})", False, advice)


def _governor(governor: str | None) -> Finding:
    if governor is None:
        return Finding("frequency governor", "not visible (a virtual machine?)", True)
    advice = "" if governor == "performance" else "for steady latencies: sudo cpupower frequency-set -g performance"
    return Finding("frequency governor", governor, governor == "performance", advice)
