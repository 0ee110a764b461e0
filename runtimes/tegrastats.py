"""Lines of tegrastats, the Jetson's own monitor, in the forms of JetPack 4 to 7.

A line is a row of entries, each optional:

    [MM-DD-YYYY HH:MM:SS] RAM 2/4MB (lfb 1x4MB) SWAP 0/2MB (cached 0MB) CPU [7%@1500,off] GR3D_FREQ 12%@[1300,1300]
    cpu@47.6C  TJ@51.2C/51.5C  VDD_IN 5297/5297 | 17946mW/15710mW | three values, the first of them the current one

The package jetsontools would parse lines too, but takes the first two words for date and time, which JetPack 4 does not
print.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

UNPOWERED_C = -256.0
"""What a sensor of a part that is switched off shows."""
INPUT_RAILS = ("VDD_IN", "POM_5V_IN", "VIN")
"""Rails that carry the whole board: Nano, NX and Orin Nano; the first Nano; Thor."""
SUMMED_RAILS = (
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
)
"""Rails that make up the board together where none carries it whole: AGX Orin; AGX Xavier."""
_RAM = re.compile(r"\bRAM (\d+)/(\d+)MB")
_CPU = re.compile(r"\bCPU \[([^\]]*)\]")
_CORE = re.compile(r"(\d+)%(?:@(\d+))?")
_GPU = re.compile(r"\bGR3D_FREQ (?:(\d+)%)?(?:@\[?([\d,]+)\]?)?")
_TEMPERATURE = re.compile(r"(?<!\S)([A-Za-z][\w-]*)@(-?\d+(?:\.\d+)?)C(?:/\S+)?(?!\S)")
_POWER = re.compile(r"(?<!\S)([A-Z]\w*) (\d+)(?:mW)?(?:/\d+(?:mW)?){1,2}(?!\S)")


@dataclass(frozen=True)
class Sample:
    """One line."""

    ram_mb: int | None
    cpu_percent: tuple[int, ...]
    """Load of each core that is on."""
    cpu_mhz: tuple[int, ...]
    gpu_percent: int | None
    gpu_mhz: int | None
    """The fastest of its parts."""
    temperatures_c: Mapping[str, float]
    power_mw: Mapping[str, int]
    """Rail -> its power now."""

    @property
    def rails(self) -> tuple[str, ...]:
        """Those whose sum is the power of the board; none where that is not known."""
        for rail in INPUT_RAILS:
            if rail in self.power_mw:
                return (rail,)
        return next((rails for rails in SUMMED_RAILS if set(rails) <= set(self.power_mw)), ())

    @property
    def power_w(self) -> float | None:
        """Of the whole board."""
        return sum(self.power_mw[rail] for rail in self.rails) / 1e3 if self.rails else None


def parse_tegrastats(line: str) -> Sample | None:
    """A line's figures; None for what is no line of tegrastats, as one that was cut off."""
    ram, cpu, gpu = _RAM.search(line), _CPU.search(line), _GPU.search(line)
    if cpu is None:
        return None
    cores = [match for core in cpu[1].split(",") if (match := _CORE.match(core.strip()))]
    temperatures = {name: float(value) for name, value in _TEMPERATURE.findall(line)}
    return Sample(
        ram_mb=int(ram[1]) if ram else None,
        cpu_percent=tuple(int(core[1]) for core in cores),
        cpu_mhz=tuple(int(core[2]) for core in cores if core[2]),
        gpu_percent=int(gpu[1]) if gpu and gpu[1] else None,
        gpu_mhz=max(int(part) for part in gpu[2].split(",") if part) if gpu and gpu[2] else None,
        temperatures_c={name: value for name, value in temperatures.items() if value != UNPOWERED_C},
        power_mw={rail: int(value) for rail, value in _POWER.findall(line) if rail != "NC"},
    )
