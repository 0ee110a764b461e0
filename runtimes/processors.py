"""A processor's name, abilities, clocks, and limits, from what Linux tells of it."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

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
ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD44: "Cortex-X1",
    0xD46: "Cortex-A510",
    0xD47: "Cortex-A710",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
}
"""What Arm's own cores (implementer 0x41), which have no model name, call themselves."""
UNLIMITED_FROM = 1 << 60
"""Bytes that version 1 of control groups gives for no limit at all: nearly 2**63."""
Groups = Sequence[Mapping[str, str]]
Cores = Mapping[str, Mapping[str, str]]


def instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """Those of TOLD_INSTRUCTION_SETS that a /proc/cpuinfo lists."""
    lines = (line for line in cpuinfo.splitlines() if line.lower().startswith(("flags", "features")))
    flags = set(next(lines, "").partition(":")[2].split())
    return tuple(name for name in TOLD_INSTRUCTION_SETS if name in flags)


def name_processor(cpuinfo: str) -> str:
    """The model, else the board's name, else the cores of an Arm; "" where nothing tells."""
    for line in cpuinfo.splitlines():
        if line.lower().startswith(("model name", "hardware")):
            return line.partition(":")[2].strip()
    if not re.search(r"^CPU implementer\s*: 0x41$", cpuinfo, re.M):
        return ""
    parts = [int(part, 16) for part in re.findall(r"^CPU part\s*: (0x[0-9a-f]+)$", cpuinfo, re.M)]
    return " + ".join(dict.fromkeys(ARM_PARTS.get(part, f"Arm part {part:#x}") for part in parts))


def find_governor(cores: Cores) -> str | None:
    """Of all cores; several where they differ."""
    return ", ".join(sorted(_collect(cores, "cpufreq/scaling_governor"))) or None


def find_mhz(cores: Cores, cpuinfo: str) -> float | None:
    """The fastest core's clock at that moment."""
    kilohertz = [int(value) for value in _collect(cores, "cpufreq/scaling_cur_freq") if value.isdigit()]
    told = [float(value) for value in re.findall(r"^cpu MHz\s*: ([\d.]+)$", cpuinfo, re.M)]
    return max([value / 1e3 for value in kilohertz] or told, default=None)


def count_throttling(cores: Cores) -> int | None:
    """How often the cores were slowed down for heat since the machine was started."""
    counts = [core[name] for core in cores.values() if (name := "thermal_throttle/core_throttle_count") in core]
    return sum(int(count) for count in counts if count.isdigit()) if counts else None


def find_cpu_limit(groups: Groups) -> float | None:
    """Cores that the tightest control group allows: quota / period, where "max" and -1 are no limit."""
    limits = []
    for group in groups:
        words = (group.get("cpu.max") or f"{group.get('cpu.cfs_quota_us')} {group.get('cpu.cfs_period_us')}").split()
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
            limits.append(int(words[0]) / int(words[1]))
    return min(limits, default=None)


def find_memory_limit(groups: Groups) -> int | None:
    """Bytes that the tightest control group allows."""
    told = [group.get("memory.max") or group.get("memory.limit_in_bytes") or "" for group in groups]
    return min((int(text) for text in told if text.isdigit() and int(text) < UNLIMITED_FROM), default=None)


def find_held_back_s(groups: Groups) -> float | None:
    """Seconds for which processes had to wait because a group's quota was used up, since the group was made."""
    units: dict[str, Callable[[int], float]] = {
        "throttled_usec": lambda n: n / 1e6,
        "throttled_time": lambda n: n / 1e9,
    }
    lines = (line.split() for group in groups for line in group.get("cpu.stat", "").splitlines())
    found = [units[words[0]](int(words[1])) for words in lines if len(words) == 2 and words[0] in units]
    return max(found, default=None)


def find_stolen_s(stat: str, ticks_per_s: int) -> float | None:
    """Seconds that the host of a virtual machine gave to others, of all cores, since it was started: the eighth figure
    of the first line of /proc/stat.
    """
    words = stat.partition("\n")[0].split()
    return int(words[8]) / ticks_per_s if len(words) > 8 and words[0] == "cpu" and ticks_per_s else None


def _collect(cores: Cores, name: str) -> Iterable[str]:
    return {core[name] for core in cores.values() if name in core}
