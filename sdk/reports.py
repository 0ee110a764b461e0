"""Reports of measurements: raw times first, every statistic derived from them."""

import json
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edgefold.device_states import DeviceState
from edgefold.errors import InputError
from edgefold.percentiles import percentile, percentile_interval
from edgefold.staging import staged_file

SAMPLES_FOR_P99 = 662
"""LoadGen's minimum for a 99th percentile by early stopping; below it, none is stated."""
THROTTLED_BELOW = 0.95
"""Share of its first clock under load below which a core is said to have been throttled."""
CONTENDED_ABOVE = 1.1
"""Wall time over CPU time of single-threaded runs above which somebody else had the core. The time for which threads
stood in line for cores tells it too, from a share of 1 - 1/1.1 of their time on: Linux likes to take the core away in
the system call that reads the CPU time, which is between two runs."""
Basis = Literal["cpu", "wall"]


class Memory(BaseModel):
    """What a process of its own held that opened one model and ran it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    before_bytes: int
    """With the runtime imported and no model open."""
    peak_bytes: int
    """The most that was held from then on, while the model was opened and run."""

    @property
    def model_bytes(self) -> int:
        """What opening and running it took on top."""
        return self.peak_bytes - self.before_bytes

    def __str__(self) -> str:
        alone = f"{self.before_bytes / 1e6:.0f} MB of Python and the runtime"
        return f"{self.model_bytes / 1e6:.0f} MB at its peak, on top of {alone}"


class Power(BaseModel):
    """A board's or a GPU's power while it idled and while one model ran back to back, as its own monitor gave it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rails: tuple[str, ...]
    """Whose sum it is."""
    idle_w: tuple[float, ...] = Field(min_length=1)
    load_w: tuple[float, ...] = Field(min_length=1)
    seconds: float
    """Length of the window under load,"""
    runs: int = Field(ge=1)
    """and the runs in it."""
    cpu_mhz: tuple[int, ...]
    """Clock of the fastest core at each sample under load."""
    gpu_mhz: tuple[int, ...]
    hottest_c: tuple[float, ...]
    """The hottest sensor at each sample under load."""

    idle_counted_w: float | None = None
    """Means by an energy counter, where there is one: they come before those of the samples."""
    load_counted_w: float | None = None
    held_back_by: tuple[str, ...] = ()
    """What kept a GPU's clock down under load, as it said itself."""

    @property
    def mean_idle_w(self) -> float:
        return fmean(self.idle_w) if self.idle_counted_w is None else self.idle_counted_w

    @property
    def mean_load_w(self) -> float:
        return fmean(self.load_w) if self.load_counted_w is None else self.load_counted_w

    @property
    def gross_j(self) -> float:
        """Energy of one run, mean P_load * T / N."""
        return self.mean_load_w * self.seconds / self.runs

    @property
    def net_j(self) -> float:
        """Energy of one run above what is taken anyway, (mean P_load - mean P_idle) * T / N."""
        return (self.mean_load_w - self.mean_idle_w) * self.seconds / self.runs

    @property
    def throttled(self) -> bool:
        """Whether a GPU said that it was held back; or whether the clock fell under load, and stayed lower: the last
        quarter against the first, of the fastest core, or of the GPU where no core is told.
        """
        clocks = self.cpu_mhz or self.gpu_mhz
        quarter = len(clocks) // 4
        fell = bool(quarter) and median(clocks[-quarter:]) < THROTTLED_BELOW * median(clocks[:quarter])
        return fell or bool(self.held_back_by)

    def __str__(self) -> str:
        cause = f"held back by {', '.join(self.held_back_by)}" if self.held_back_by else "the clock fell under load"
        counted = ", by its energy counter" if self.load_counted_w is not None else ""
        return (
            f"{self.gross_j * 1e3:.2f} mJ a run, {self.net_j * 1e3:.2f} mJ above idle ({self.mean_load_w:.2f} W under "
            f"load, {self.mean_idle_w:.2f} W idle, {' + '.join(self.rails)}{counted}, {len(self.load_w)} samples in "
            f"{self.seconds:.1f} s){f', THROTTLED: {cause}' if self.throttled else ''}"
        )


class Report(BaseModel):
    """Times of one session on one device."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())  # derived figures may stand beside

    schema_version: Literal[1] = 1
    label: str
    runtime: str
    device: str
    address: str | None = None
    """Of the machine that `device` belongs to, as in ssh://user@host; None for this one."""
    precision: str
    model_sha256: str | None
    batch_size: int
    shapes: dict[str, tuple[int, ...]]
    times_s: tuple[float, ...] = Field(min_length=1)
    """Wall time of each run."""
    cpu_times_s: tuple[float, ...]
    """CPU time of this process, all threads, during each run."""
    blocks: tuple[int, ...]
    """Which interleaved block each run belongs to; reports measured together share their block numbers."""
    gpu_times_s: tuple[float, ...] = ()
    """Of each run the kernels alone, by CUDA events, without copies; empty where nothing tells it."""
    concurrency: int = Field(1, ge=1)
    """Sessions that ran at the same time, each in a thread of its own; CPU times are then those of that thread."""
    waited_s: float | None = None
    """How long the threads were ready and got no core, all together; None where the system does not tell."""
    load_s: float
    first_run_s: float
    warmup_runs: int
    settings: dict[str, Any]
    """Threads, spinning, providers: what the session reports of itself."""
    before: DeviceState
    after: DeviceState
    power: Power | None = None
    """Where the device tells it."""
    memory: Memory | None = None
    """Where it was asked for and the system tells it."""

    @model_validator(mode="after")
    def _one_of_each_per_run(self) -> "Report":
        runs, cpu, blocks = len(self.times_s), len(self.cpu_times_s), len(self.blocks)
        if not runs == cpu == blocks:
            raise ValueError(f"{runs} wall times, {cpu} CPU times and {blocks} block numbers; each run has one of each")
        if len(self.gpu_times_s) not in (0, runs):
            raise ValueError(f"{len(self.gpu_times_s)} GPU times of {runs} runs; give one of each run, or none")
        return self

    @property
    def where(self) -> str:
        """The device in words, as in "cpu of ssh://user@host"."""
        return f"{self.device} of {self.address}" if self.address else self.device

    @property
    def p50_s(self) -> float:
        return percentile(self.times_s, 50)

    @property
    def p90_s(self) -> float:
        return percentile(self.times_s, 90)

    @property
    def p99_s(self) -> float | None:
        """None with fewer samples than it takes to state one."""
        return percentile(self.times_s, 99) if len(self.times_s) >= SAMPLES_FOR_P99 else None

    @property
    def cpu_p50_s(self) -> float:
        return percentile(self.cpu_times_s, 50)

    @property
    def gpu_p50_s(self) -> float | None:
        """None where nothing told how long the kernels took."""
        return percentile(self.gpu_times_s, 50) if self.gpu_times_s else None

    def p50_of(self, basis: Basis) -> float:
        return percentile(self.cpu_times_s if basis == "cpu" else self.times_s, 50)

    def p50_interval_of(self, basis: Basis) -> tuple[float, float]:
        """Of 95 %."""
        return percentile_interval(self.cpu_times_s if basis == "cpu" else self.times_s, 50)

    @property
    def mean_s(self) -> float:
        return sum(self.times_s) / len(self.times_s)

    @property
    def throughput(self) -> float:
        """Samples per second of wall time, of all sessions that ran at the same time."""
        return self.batch_size * self.concurrency / self.mean_s

    @property
    def p50_interval_s(self) -> tuple[float, float]:
        return self.p50_interval_of("wall")

    @property
    def p90_interval_s(self) -> tuple[float, float]:
        return percentile_interval(self.times_s, 90)

    @property
    def p99_interval_s(self) -> tuple[float, float] | None:
        """None where no 99th percentile is stated."""
        return percentile_interval(self.times_s, 99) if self.p99_s is not None else None

    @property
    def contended(self) -> bool | None:
        """Whether other processes had a share of the cores; None on other devices than CPUs, where there are more
        threads than cores, or where the system does not tell.
        """
        threads = self.settings.get("threads")
        if self.device != "cpu" or not isinstance(threads, int) or threads * self.concurrency > self.before.cores:
            return None
        bearable_s = (1 - 1 / CONTENDED_ABOVE) * threads * sum(self.times_s)
        waited = None if self.waited_s is None else self.waited_s > bearable_s
        if threads == self.concurrency == 1:
            return bool(waited) or sum(self.times_s) > CONTENDED_ABOVE * sum(self.cpu_times_s)
        return waited

    @property
    def throttled(self) -> bool | None:
        """Whether cores were slowed down for heat, or held back by the quota of their control group, meanwhile."""
        if self.power is not None and self.power.throttled:
            return True
        pairs = (
            (self.before.throttle_count, self.after.throttle_count),
            (self.before.held_back_s, self.after.held_back_s),
        )
        told = [later > earlier for earlier, later in pairs if earlier is not None and later is not None]
        return any(told) if told else None if self.power is None else False

    def summary(self) -> dict[str, Any]:
        """The derived figures, JSON-able."""
        return {
            "label": self.label,
            "runs": len(self.times_s),
            "p50_s": self.p50_s,
            "p90_s": self.p90_s,
            "p99_s": self.p99_s,
            "p50_interval_s": self.p50_interval_s,
            "p90_interval_s": self.p90_interval_s,
            "p99_interval_s": self.p99_interval_s,
            "cpu_p50_s": self.cpu_p50_s,
            "gpu_p50_s": self.gpu_p50_s,
            "throughput": self.throughput,
            "contended": self.contended,
            "peak_memory_bytes": self.memory.model_bytes if self.memory else None,
            "energy_j": self.power.gross_j if self.power else None,
            "energy_above_idle_j": self.power.net_j if self.power else None,
            "throttled": self.throttled,
        }

    def __str__(self) -> str:
        low, high = self.p50_interval_s
        p99 = f"{self.p99_s * 1e3:.3f} ms" if self.p99_s is not None else f"not stated below {SAMPLES_FOR_P99} runs"
        return "\n".join(
            (
                f"{self.label}: {self.runtime} on {self.where}, {self.precision}, batch {self.batch_size}"
                + (f", {self.concurrency} at a time" if self.concurrency > 1 else ""),
                f"  p50 {self.p50_s * 1e3:.3f} ms (95 % interval {low * 1e3:.3f} to {high * 1e3:.3f}), "
                f"p90 {self.p90_s * 1e3:.3f} ms, p99 {p99}",
                f"  CPU time p50 {self.cpu_p50_s * 1e3:.3f} ms, throughput {self.throughput:.1f} samples/s, "
                f"{len(self.times_s)} runs after {self.warmup_runs} of warm-up",
                f"  threads {self.settings.get('threads')}, spinning {self.settings.get('spinning')}, "
                f"contended: {_said(self.contended)}",
                *(
                    [f"  GPU p50 {self.gpu_p50_s * 1e3:.3f} ms, the kernels alone"]
                    if self.gpu_p50_s is not None
                    else []
                ),
                *(["  THROTTLED: cores were slowed down for heat, or held back by a quota"] if self.throttled else []),
                *([f"  memory {self.memory}"] if self.memory else []),
                *([f"  energy {self.power}"] if self.power else []),
            )
        )


def write_report(content: dict[str, Any], path: str | Path) -> None:
    """Write JSON whole or not at all."""
    with staged_file(path) as staging:
        staging.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def load_report(path: str | Path) -> Report:
    """Read a report's JSON.

    Raises:
        InputError: no such file, or not a report.
    """
    try:
        return Report.model_validate_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise InputError(f"There is no report {path}; give a JSON file of one report.") from None
    except OSError as error:
        raise InputError(f"The report {path} cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        raise InputError(f"{path} is not a report of edgefold: {error.errors()[0]['msg']}.") from None


def _said(contended: bool | None) -> str:
    return {True: "yes", False: "no", None: "not told"}[contended]
