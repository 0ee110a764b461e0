"""Measuring artifacts in turns, here or on a device: the one path behind `edgefold bench`."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.errors import InputError
from edgefold.reports import Report
from edgefold.runtimes.affinity import bound_to
from edgefold.runtimes.benchmarking import MIN_RUNS, benchmark_together
from edgefold.runtimes.concurrency import benchmark_concurrently
from edgefold.runtimes.gpu_power import measure_gpu_power
from edgefold.runtimes.memory_use import Opening, measure_memory
from edgefold.runtimes.remote.addresses import is_remote
from edgefold.runtimes.remote.measurement import benchmark_on_device
from edgefold.runtimes.sessions import Session, open_session


def benchmark_artifacts(
    artifacts: Mapping[str, Artifact],
    inputs: Mapping[str, NDArray[Any]],
    *,
    device: str = "cpu",
    runtime: str | None = None,
    threads: int = 1,
    spinning: bool = False,
    warmup_s: float = 0.2,
    min_duration_s: float = 1.0,
    min_runs: int = MIN_RUNS,
    block_s: float = 0.05,
    energy_s: float = 10.0,
    concurrency: int = 1,
    cores: Sequence[int] = (),
    memory: bool = False,
    provider: str | None = None,
    io_binding: bool = False,
    cuda_graph: bool = False,
    tf32: bool = False,
    beside: Mapping[str, Session] | None = None,
) -> dict[str, Report]:
    """Open artifacts side by side and measure them as `benchmark_together` does.

    Args:
        artifacts: label -> artifact.
        device: "cpu" or "cuda" of this machine, or ssh://user@host[:port] for the CPU of another, which needs python3
            and the runtime and nothing of ours.
        runtime: of all; else of each the one that it is for, as `open_session` takes it.
        energy_s: on a Jetson or an NVIDIA GPU (by nvidia-ml-py), how long it idles and then runs each artifact alone
            while its power is read; 0 for not.
        concurrency: sessions of each artifact that run at the same time; see `benchmark_concurrently`.
        cores: those of the machine that it stays on; () for all that it may use.
        memory: whether to open and run each artifact once more in a process of its own, to see how much it takes.
        provider, io_binding, cuda_graph, tf32: of a GPU; see `open_session`.
        beside: label -> sessions that are open on this machine, as of `open_torch_baseline`, to be measured in turns
            with the artifacts.

    Raises:
        InputError: nothing to measure, a malformed address, or artifacts and inputs that do not fit.
        DeviceError: the device or the runtime is not there, or was lost on the way.
    """
    if not artifacts:
        raise InputError("There is nothing to measure; give at least one artifact.")
    _check_beside(artifacts, beside or {}, device, concurrency)
    procedure = {"warmup_s": warmup_s, "min_duration_s": min_duration_s, "min_runs": min_runs, "block_s": block_s}
    if is_remote(device):
        if provider or io_binding or cuda_graph or tf32:
            raise InputError(f"Providers, IO binding, CUDA graphs and TF32 are for this machine's GPU; got {device}.")
        return benchmark_on_device(
            artifacts,
            inputs,
            device=device,
            threads=threads,
            spinning=spinning,
            procedure=procedure,
            runtime=runtime,
            concurrency=concurrency,
            cores=cores,
            memory=memory,
            energy_s=energy_s,
        )
    gpu: Any = {"provider": provider, "io_binding": io_binding, "cuda_graph": cuda_graph, "tf32": tf32}
    opening = Opening(device=device, runtime=runtime, threads=threads, spinning=spinning, **gpu)
    with bound_to(cores):
        return _measure_here(artifacts, inputs, opening, procedure, concurrency, memory, energy_s, beside or {})


def _check_beside(
    artifacts: Mapping[str, Artifact], beside: Mapping[str, Session], device: str, concurrency: int
) -> None:
    if beside and is_remote(device):
        raise InputError(f"{next(iter(beside))} is open on this machine, so it cannot be measured on {device}.")
    if beside and concurrency > 1:
        raise InputError(f"{next(iter(beside))} is one open session; concurrency={concurrency} would take as many.")
    if shared := sorted(artifacts.keys() & beside.keys()):
        raise InputError(f"{shared[0]} is the label of two; give each its own.")


def _measure_here(
    artifacts: Mapping[str, Artifact],
    inputs: Mapping[str, NDArray[Any]],
    opening: Opening,
    procedure: Mapping[str, Any],
    concurrency: int,
    memory: bool,
    energy_s: float,
    beside: Mapping[str, Session],
) -> dict[str, Report]:
    sizes = {label: measure_memory(artifact, inputs, opening) for label, artifact in artifacts.items() if memory}
    with ExitStack() as stack:
        sessions = {
            label: [stack.enter_context(open_session(artifact, **asdict(opening))) for _ in range(concurrency)]
            for label, artifact in artifacts.items()
        }
        sessions |= {label: [session] for label, session in beside.items()}
        reports = _measure(sessions, inputs, procedure)
        runs = {label: partial(group[0].run, inputs) for label, group in sessions.items()}
        watches = opening.device == "cuda" and concurrency == 1 and energy_s > 0
        powers = measure_gpu_power(runs, energy_s) if watches else {}
    return {
        label: report.model_copy(update={"memory": sizes.get(label), "power": powers.get(label)})
        for label, report in reports.items()
    }


def _measure(
    sessions: Mapping[str, Sequence[Session]], inputs: Mapping[str, NDArray[Any]], procedure: Mapping[str, Any]
) -> dict[str, Report]:
    """One session of each by itself, or several of each at the same time."""
    if all(len(group) == 1 for group in sessions.values()):
        return benchmark_together({label: group[0] for label, group in sessions.items()}, inputs, **procedure)
    timing = {name: value for name, value in procedure.items() if name != "block_s"}
    return benchmark_concurrently(sessions, inputs, **timing)
