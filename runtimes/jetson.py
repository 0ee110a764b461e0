"""What a Jetson says of itself: board, L4T and JetPack, power mode, whether its clocks are locked."""

import re
from collections.abc import Mapping

from edgefold.device_states import JetsonState

JETPACKS = {
    "35.1": "5.0.2",
    "35.2.1": "5.1",
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.5.0": "6.2.2",
    "38.2": "7.0",
    "38.4": "7.1",
    "39.2": "7.2",
}
"""L4T -> JetPack where one is known for certain; a L4T 36.3.0 is 36.3."""
GENERATIONS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
"""The first number of L4T -> that of JetPack."""


def describe_jetson(files: Mapping[str, str], answers: Mapping[str, str]) -> JetsonState | None:
    """The state of a Jetson; None where this is none.

    Args:
        files: path -> content.
        answers: "nvpmodel" and "jetson_clocks" -> what they print; empty where they are not there or need root.
    """
    release = re.search(r"# R(\d+) .*REVISION: ([\d.]+)", files["/etc/nv_tegra_release"])
    model = files["/proc/device-tree/model"].rstrip("\0\n")
    if release is None and "Jetson" not in model:
        return None
    l4t = f"{release[1]}.{release[2]}" if release else None
    mode = re.search(r"NV Power Mode: *(\S+)", answers["nvpmodel"])
    return JetsonState(
        model=model or "unknown",
        l4t=l4t,
        jetpack=_jetpack(l4t),
        power_mode=mode[1] if mode else None,
        clocks_locked=_clocks_locked(answers["jetson_clocks"]),
    )


def _jetpack(l4t: str | None) -> str | None:
    if l4t is None:
        return None
    generation = GENERATIONS.get(l4t.partition(".")[0])
    return JETPACKS.get(l4t) or JETPACKS.get(l4t.removesuffix(".0")) or (f"{generation}.x" if generation else None)


def _clocks_locked(shown: str) -> bool | None:
    """Whether every online core's and the GPU's lowest clock is its highest; None where jetson_clocks shows none."""
    lines = [line for line in shown.splitlines() if re.match(r" *(cpu\d+:|GPU\b)", line) and "Online=0" not in line]
    ranges = [match for line in lines if (match := re.search(r"MinFreq=(\d+) +MaxFreq=(\d+)", line))]
    return all(lowest == highest for lowest, highest in (match.groups() for match in ranges)) if ranges else None
