"""What decides about a GPU's speed beside its load, as the driver's management library (NVML) tells it."""

from pydantic import BaseModel, ConfigDict

REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability voltage",
}
"""Bits of NVML's clock event reasons: why the clock is not higher."""
HELD_BACK = frozenset(
    ("power cap", "hardware slowdown", "heat (software)", "heat (hardware)", "power brake", "board limit")
)
"""Those that slow a GPU down under load."""


class GpuState(BaseModel):
    """One GPU at one moment; None is what it does not tell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    driver: str | None
    memory_bytes: int | None
    memory_used_bytes: int | None
    sm_mhz: int | None
    max_sm_mhz: int | None
    memory_mhz: int | None
    max_memory_mhz: int | None
    power_limit_w: float | None
    persistence: bool | None
    """Whether the driver stays loaded between programs."""
    compute_mode: str | None
    clock_reasons: tuple[str, ...] | None
    """Why the clock was not higher."""
    temperature_c: int | None
    other_processes: int | None
    """That compute on it, by their numbers; in a container, where numbers differ, ours may be among them."""


def decode_reasons(bits: int) -> tuple[str, ...]:
    """The reasons behind NVML's bits; a bit that is not known is named by its number."""
    singles = [1 << place for place in range(bits.bit_length()) if bits >> place & 1]
    return tuple(REASONS.get(bit, f"reason {bit:#x}") for bit in singles)
