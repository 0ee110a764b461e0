"""What Linux tells of the cores that this process may use, and of the control groups that it is in."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

CORE_FILES = ("cpufreq/scaling_governor", "cpufreq/scaling_cur_freq", "thermal_throttle/core_throttle_count")
"""Of each core, below /sys/devices/system/cpu/cpuN; virtual machines mostly have none of them."""
GROUP_FILES = {
    "": ("cpu.max", "cpu.stat", "memory.max"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.stat"),
    "memory": ("memory.limit_in_bytes",),
}
"""Controller -> its files; "" is the one hierarchy of version 2, the others are those of version 1."""
ROOT = "/sys/fs/cgroup"


def read_cores(read: Callable[[str], str]) -> dict[str, Any]:
    """The cores by number, each with its files; a file that is not there is left out."""
    numbers = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    return {str(number): _present(f"/sys/devices/system/cpu/cpu{number}", CORE_FILES, read) for number in numbers}


def read_groups(read: Callable[[str], str]) -> list[dict[str, str]]:
    """The files of the groups that this process is in, and of those around them, whose limits hold as well."""
    groups = []
    for controller, folder in _folders(read("/proc/self/cgroup")):
        while True:
            found = _present(
                f"{ROOT}/{controller}/{folder}".replace("//", "/").rstrip("/"), GROUP_FILES[controller], read
            )
            groups += [found] if found else []
            if not folder:
                break
            folder = folder.rpartition("/")[0]
    return groups


def _folders(listed: str) -> list[tuple[str, str]]:
    """(controller, folder below its root) of each line "number:controllers:/folder"; the roots where none is told."""
    found = {"": ""}
    for line in listed.splitlines():
        _, controllers, folder = (line + "::").split(":")[:3]
        for controller in controllers.split(","):
            if controller in GROUP_FILES:
                found[controller] = folder.strip("/")
    return list(found.items())


def _present(folder: str, names: tuple[str, ...], read: Callable[[str], str]) -> dict[str, str]:
    contents = {name: read(f"{folder}/{name}").strip() for name in names}
    return {name: content for name, content in contents.items() if content}
