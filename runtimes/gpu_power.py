"""A GPU's power while it idles and while one model runs back to back, read in the background."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

from edgefold.gpu_states import HELD_BACK
from edgefold.reports import Power
from edgefold.runtimes.nvidia import NvmlGpu, Reading, nvidia_gpus

INTERVAL_S = 0.02
SETTLING_S = 1.0
"""Left out at the start of a window, at most a quarter of it: clocks and readings lag behind the load."""
RAIL = "GPU"
Run = Callable[[], object]


def measure_gpu_power(runs: Mapping[str, Run], seconds: float) -> dict[str, Power]:
    """Let the GPU idle, then run each model alone for so long; empty where no NVML tells the power.

    Sessions stay open meanwhile, so that idle is what the GPU takes with them and nothing to do.
    """
    with nvidia_gpus() as gpus:
        if not gpus or not runs:
            return {}
        with sampling_gpu(gpus[0]) as idle:
            time.sleep(seconds)
        found = {}
        for label, run in runs.items():
            with sampling_gpu(gpus[0]) as load:
                started, count = time.perf_counter(), 0
                while (elapsed := time.perf_counter() - started) < seconds:
                    run()
                    count += 1
            if power := make_power(idle, load, count, elapsed):
                found[label] = power
    return found


@contextmanager
def sampling_gpu(gpu: NvmlGpu, interval_s: float = INTERVAL_S) -> Iterator[list[Reading]]:
    """Readings from the beginning of a block to its end."""
    readings = [gpu.read()]
    ended = threading.Event()

    def sample() -> None:
        while not ended.wait(interval_s):
            readings.append(gpu.read())

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield readings
    finally:
        ended.set()
        thread.join()


def make_power(idle: Sequence[Reading], load: Sequence[Reading], runs: int, seconds: float) -> Power | None:
    """Both windows without their beginnings; None where the GPU tells no power."""
    idle, load = _settled(idle), _settled(load)
    idle_w, load_w = (_powers(part) for part in (idle, load))
    if not idle_w or not load_w or not runs:
        return None
    seen = {reason for reading in load for reason in reading.reasons}
    return Power(
        rails=(RAIL,),
        idle_w=idle_w,
        load_w=load_w,
        idle_counted_w=count_power(idle),
        load_counted_w=count_power(load),
        seconds=seconds,
        runs=runs,
        cpu_mhz=(),
        gpu_mhz=tuple(reading.sm_mhz for reading in load if reading.sm_mhz is not None),
        hottest_c=tuple(float(reading.temperature_c) for reading in load if reading.temperature_c is not None),
        held_back_by=tuple(sorted(seen & HELD_BACK)),
    )


def count_power(readings: Sequence[Reading]) -> float | None:
    """Mean watts by the energy counter, from one of its steps to its last; None with fewer than two steps.

    The counter moves in steps of tens of milliseconds, so between other moments it would be off by up to one.
    """
    steps = [
        (later.at_s, later.energy_j)
        for earlier, later in pairwise(readings)
        if earlier.energy_j is not None and later.energy_j is not None and later.energy_j != earlier.energy_j
    ]
    if len(steps) < 2:
        return None
    (began_s, began_j), (ended_s, ended_j) = steps[0], steps[-1]
    return (ended_j - began_j) / (ended_s - began_s)


def _settled(readings: Sequence[Reading]) -> Sequence[Reading]:
    if not readings:
        return readings
    first, last = readings[0].at_s, readings[-1].at_s
    begin = first + min(SETTLING_S, (last - first) / 4)
    return [reading for reading in readings if reading.at_s >= begin]


def _powers(readings: Sequence[Reading]) -> tuple[float, ...]:
    """Of those moments at which it was told; where only the counter tells it, its mean."""
    told = tuple(reading.power_w for reading in readings if reading.power_w is not None)
    counted = count_power(readings)
    return told or (() if counted is None else (counted,))
