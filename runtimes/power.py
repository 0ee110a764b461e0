"""A board's power while it idled and while one model ran, from the lines that it streamed."""

from collections.abc import Iterable, Mapping
from typing import Any

from edgefold.reports import Power
from edgefold.runtimes.tegrastats import Sample, parse_tegrastats

SETTLING = 2
"""Samples left out at the start of a window: they reach back into the one before, and clocks are rising."""


def read_power(lines: Iterable[Mapping[str, str]], label: str, window: Mapping[str, Any] | None) -> Power | None:
    """What tegrastats said around one model; None where it said too little or nothing of the board's power.

    Args:
        lines: dicts of phase ("idle", "load <label>", others) and line.
        window: runs and seconds of this model's window under load.
    """
    samples: dict[str, list[Sample]] = {}
    for item in lines:
        if sample := parse_tegrastats(item["line"]):
            samples.setdefault(item["phase"], []).append(sample)
    idle, load = (samples.get(phase, [])[SETTLING:] for phase in ("idle", f"load {label}"))
    idle_w, load_w = (tuple(s.power_w for s in part if s.power_w is not None) for part in (idle, load))
    if not window or not idle_w or not load_w:
        return None
    return Power(
        rails=load[0].rails,
        idle_w=idle_w,
        load_w=load_w,
        seconds=window["seconds"],
        runs=window["runs"],
        cpu_mhz=tuple(max(s.cpu_mhz) for s in load if s.cpu_mhz),
        gpu_mhz=tuple(s.gpu_mhz for s in load if s.gpu_mhz is not None),
        hottest_c=tuple(max(s.temperatures_c.values()) for s in load if s.temperatures_c),
    )
