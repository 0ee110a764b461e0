"""Measuring artifacts on a device: the same procedure as here, run there; statistics are derived here."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edgefold.artifacts import Artifact
from edgefold.device_states import DeviceState
from edgefold.errors import DeviceError, InputError
from edgefold.reports import Memory, Report
from edgefold.runtimes.agent.arrays import encode_arrays
from edgefold.runtimes.benchmarking import batch_size
from edgefold.runtimes.devices import describe_device
from edgefold.runtimes.power import read_power
from edgefold.runtimes.remote.addresses import Address, parse_address
from edgefold.runtimes.remote.connections import Connection
from edgefold.runtimes.remote.uploading import send_model
from edgefold.runtimes.sessions import check_feeds, runtime_on_device

FORMATS = ("onnx",)
WAIT_S = 20.0
"""For another client to be done."""
LIMIT_S = 1800.0
WEIGH_LIMIT_S = 600.0
"""The longest that opening and running one model for its memory may take."""


def read_remote_state(device: str) -> DeviceState:
    """The state of a device at ssh://user@host[:port].

    Raises:
        InputError: the address is malformed.
        DeviceError: the device cannot be reached.
    """
    with Connection(parse_address(device)) as connection:
        return describe_device(connection.ask("probe", doing="being asked for its state"))


def clear_remote_store(device: str, wait_s: float = WAIT_S) -> None:
    """Remove every model that earlier runs left on a device.

    Raises:
        InputError: the address is malformed.
        DeviceError: the device cannot be reached, or another client is at work there.
    """
    with Connection(parse_address(device)) as connection:
        connection.ask("lock", doing="waiting for the device", wait_s=wait_s, within_s=wait_s + 60)
        connection.ask("clear", doing="emptying its store")


def benchmark_on_device(
    artifacts: Mapping[str, Artifact],
    inputs: Mapping[str, NDArray[Any]],
    *,
    device: str,
    threads: int,
    spinning: bool,
    procedure: Mapping[str, float],
    runtime: str | None = None,
    concurrency: int = 1,
    cores: Sequence[int] = (),
    memory: bool = False,
    energy_s: float = 0.0,
    wait_s: float = WAIT_S,
    limit_s: float = LIMIT_S,
) -> dict[str, Report]:
    """Measure artifacts in turns on the CPU of a device.

    Args:
        device: ssh://user@host[:port].
        procedure: the settings of `measure_in_turns`.
        runtime: one of `ON_DEVICES` for all; else of each the one that it is for.
        concurrency: copies of each artifact that run at the same time; see `benchmark_concurrently`.
        cores: those of the device that the measuring process stays on; () for all that it may use.
        memory: whether to open and run each artifact once more in a process of its own there, to see how much it takes.
        energy_s: how long a board that tells its power (a Jetson) idles, and then runs each artifact alone, for it;
            not read where several run at the same time.
        wait_s: for another client to be done with the device.
        limit_s: the longest that measuring may take.

    Raises:
        InputError: a malformed address, an artifact or runtime that is not for devices, inputs that do not fit, or
            cores that are not there.
        DeviceError: the device or its runtime cannot be used, or was lost on the way.
    """
    address = parse_address(device)
    for artifact in artifacts.values():
        _check(artifact, inputs)
    runtimes = {label: runtime_on_device(artifact, runtime, device) for label, artifact in artifacts.items()}
    samples: list[dict[str, str]] = []
    with Connection(address) as connection:
        _refuse_emulation(address, describe_device(connection.ask("probe", doing="being asked for its state")))
        connection.ask("lock", doing="waiting for the device", wait_s=wait_s, within_s=wait_s + 60)
        models = {label: send_model(connection, artifact, runtimes[label]) for label, artifact in artifacts.items()}
        common: dict[str, Any] = {
            "inputs": encode_arrays(inputs),
            "device": "cpu",
            "threads": threads,
            "spinning": spinning,
            "cores": list(cores),
        }
        sizes = {label: _weigh(connection, label, models[label], common) for label in artifacts if memory}
        found = connection.ask(
            "measure",
            doing="measuring",
            within_s=limit_s + 60,
            models=models,
            concurrency=concurrency,
            procedure=dict(procedure),
            energy_s=energy_s if concurrency == 1 else 0.0,
            limit_s=limit_s,
            samples=samples,
            **common,
        )
    before, after = describe_device(found["before"]), describe_device(found["after"])
    return {
        label: Report(
            label=label,
            runtime=runtimes[label],
            device="cpu",
            address=str(address),
            precision=artifact.precision,
            model_sha256=artifact.files[artifact.model_file].sha256,
            batch_size=batch_size(inputs),
            concurrency=concurrency,
            shapes={name: tuple(value.shape) for name, value in inputs.items()},
            load_s=found["load_s"][label],
            settings=found["settings"][label],
            before=before,
            after=after,
            power=read_power(samples, label, found["windows"].get(label)),
            memory=sizes.get(label),
            **found["records"][label],
        )
        for label, artifact in artifacts.items()
    }


def _weigh(connection: Connection, label: str, model: dict[str, Any], common: dict[str, Any]) -> Memory | None:
    """None where the device does not tell."""
    found = connection.ask(
        "weigh",
        doing=f"weighing {label}",
        within_s=WEIGH_LIMIT_S + 60,
        label=label,
        model=model,
        limit_s=WEIGH_LIMIT_S,
        **common,
    )
    return Memory(**found) if found else None


def _refuse_emulation(address: Address, state: DeviceState) -> None:
    if state.emulated:
        raise DeviceError(
            f"{address} is emulated ({state.system}, on a kernel of another architecture), so its times say nothing of "
            f"any device; compare its outputs with edgefold verify --device {address}, and measure on a real one."
        )


def _check(artifact: Artifact, inputs: Mapping[str, NDArray[Any]]) -> None:
    if artifact.format not in FORMATS:
        raise InputError(
            f"On a device {' and '.join(FORMATS)} can be measured; {artifact.folder} is {artifact.format}."
        )
    check_feeds(artifact.inputs, inputs)
