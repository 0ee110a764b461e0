"""`edgefold bench`: latency and throughput of an artifact, on this machine or a device; needs no torch."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.devices import check_device
from edgefold.cli.paths import check_artifact_folder, check_output_file


def bench_artifact(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Folder of the artifact to measure.")],
    against: Annotated[
        Path | None, typer.Option(help="Artifact to compare with, measured in turns with the first.")
    ] = None,
    runtime: Annotated[Literal["onnxruntime", "tensorrt"], typer.Option(help="Runtime that opens it.")] = "onnxruntime",
    device: Annotated[
        str, typer.Option(help="cpu or cuda of this machine, or ssh://user@host[:port] for another's CPU.")
    ] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Samples in one run.")] = 1,
    sequence: Annotated[int, typer.Option(min=1, help="Tokens of one sample.")] = 128,
    past: Annotated[int, typer.Option(min=0, help="Tokens read before, of a model with a cache.")] = 0,
    part: Annotated[
        str | None, typer.Option(help="Graph of an encoder-decoder (encoder, decoder, decoder_with_past).")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Least time to measure each artifact for.")] = 5.0,
    energy_seconds: Annotated[
        float, typer.Option(min=0.0, help="Length of the windows in which a Jetson's power is read; 0 for none.")
    ] = 10.0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the reports, with every raw time.")] = None,
) -> Answer:
    """Measure latency and throughput; with --against, the paired ratio and its confidence interval as well."""
    folders = [check_artifact_folder(folder) for folder in (artifact, against) if folder]
    check_device(device)
    if out:
        check_output_file(out)
    from edgefold.cli.bench_job import measure

    settings = {"runtime": runtime, "device": device, "threads": threads, "energy_s": energy_seconds}
    return measure(folders, settings, batch=batch, sequence=sequence, past=past, part=part, seconds=seconds, out=out)
