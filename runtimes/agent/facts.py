"""What a device says of itself, as it says it: files and answers of programs; edgefold.runtimes.devices reads them."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from edgefold.runtimes.agent.cpu_facts import read_cores, read_groups

FILES = (
    "/proc/cpuinfo",
    "/proc/stat",
    "/sys/devices/system/cpu/cpufreq/boost",
    "/sys/devices/system/cpu/intel_pstate/no_turbo",
    "/sys/devices/system/cpu/smt/active",
    "/proc/sys/kernel/arch",
    "/proc/device-tree/model",
    "/etc/nv_tegra_release",
)
PROGRAMS = {"nvpmodel": ("nvpmodel", "-q"), "jetson_clocks": ("jetson_clocks", "--show")}
"""A Jetson's own, which tell its power mode and its clocks."""
PACKAGES = ("edgefold", "numpy", "onnxruntime", "onnxruntime-gpu", "openvino")
ANSWER_WITHIN_S = 5.0


def read_facts() -> dict[str, Any]:
    """The device as it is now, of JSON's types; a file that cannot be read is empty."""
    return {
        "files": {path: _read(path) for path in FILES},
        "answers": {name: ask(*command) for name, command in PROGRAMS.items()},
        "cores": read_cores(_read),
        "groups": read_groups(_read),
        "ticks_per_s": os.sysconf("SC_CLK_TCK"),
        "load_average": list(os.getloadavg()),
        "architecture": platform.machine(),
        "machine": platform.processor() or platform.machine(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "taken_at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
    }


def ask(*command: str) -> str:
    """What a program prints; empty where there is none of that name, or it fails."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ANSWER_WITHIN_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
