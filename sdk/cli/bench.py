"""`edgefold bench`: latency and throughput of an artifact on this machine; needs no torch."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.paths import check_artifact_folder, check_output_file


class Device(str, Enum):
    """Where the artifact runs."""

    cpu = "cpu"
    cuda = "cuda"


class Runtime(str, Enum):
    """What runs it."""

    onnxruntime = "onnxruntime"


def bench_artifact(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of the artifact to measure.")],
    against: Annotated[
        Path | None, typer.Option(help="Artifact to compare with, measured in turns with the first.")
    ] = None,
    runtime: Annotated[Runtime, typer.Option(help="Runtime that opens it.")] = Runtime.onnxruntime,
    device: Annotated[Device, typer.Option(help="Device of this machine.")] = Device.cpu,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one run.")] = 1,
    sequence: Annotated[int, typer.Option(min=1, help="Tokens of one sample.")] = 128,
    seconds: Annotated[float, typer.Option(min=0.01, help="Least time to measure each artifact for.")] = 5.0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the reports, with every raw time.")] = None,
) -> Answer:
    """Measure latency and throughput; with --against, the paired ratio and its confidence interval as well."""
    folders = [check_artifact_folder(folder) for folder in (artifact, against) if folder]
    if out:
        check_output_file(out)
    from edgefold.cli.bench_job import measure

    settings = {"runtime": runtime.value, "device": device.value, "threads": threads}
    return measure(folders, settings, batch=batch, sequence=sequence, seconds=seconds, out=out)
