"""A device at one moment: what it is, and what may have slowed it down."""

from pydantic import BaseModel, ConfigDict

from edgefold.gpu_states import GpuState


class JetsonState(BaseModel):
    """What decides about a Jetson's speed beside its load."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    l4t: str | None
    jetpack: str | None
    """As far as L4T tells it."""
    power_mode: str | None
    """What nvpmodel is set to."""
    clocks_locked: bool | None
    """Whether jetson_clocks holds them at their highest; None where it did not tell."""


class DeviceState(BaseModel):
    """Where and under what load something was measured."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    processor: str
    instruction_sets: tuple[str, ...]
    cores: int
    governor: str | None
    load_average: tuple[float, ...]
    cpu_limit: float | None
    """Cores that the control group allows; None where it does not limit."""
    system: str
    versions: dict[str, str]
    taken_at: str
    """ISO 8601, UTC."""
    affinity: tuple[int, ...] = ()
    """Numbers of the cores that the process could use."""
    mhz: float | None = None
    """Clock of the fastest of them at that moment; this and what follows is None where the system does not tell."""
    turbo: bool | None = None
    """Whether cores may run faster than their base clock for a while."""
    smt: bool | None = None
    """Whether two threads share a core."""
    throttle_count: int | None = None
    """How often the cores were slowed down for heat, since the machine was started."""
    held_back_s: float | None = None
    """How long the control group had used up its quota, since it was made."""
    memory_limit_bytes: int | None = None
    """Of the control group."""
    stolen_s: float | None = None
    """Of all cores: what the host of a virtual machine gave to others, since it was started."""
    emulated: bool = False
    """Whether programs run there under emulation, so that their times say nothing."""
    jetson: JetsonState | None = None
    gpus: tuple[GpuState, ...] = ()
    """NVIDIA's, where NVML tells of them."""
