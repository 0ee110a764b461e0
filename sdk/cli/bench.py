"""`edgefold bench`: latency and throughput of an artifact, on this machine or a device; needs no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.devices import LOCAL, check_device
from edgefold.cli.paths import check_artifact, check_model_folder, check_output_file
from edgefold.errors import InputError

OFFLINE_BATCHES = (1, 2, 4, 8)


def bench_artifact(
    artifact: Annotated[
        Path, typer.Argument(metavar="ARTIFACT", help="Artifact to measure: a folder, or what pack made of it.")
    ],
    against: Annotated[
        Path | None, typer.Option(help="Artifact to compare with, measured in turns with the first.")
    ] = None,
    against_torch: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the student or checkpoint to compare with as torch runs it in float32, on this machine.",
        ),
    ] = None,
    torch_compile: Annotated[
        bool, typer.Option("--torch-compile", help="With --against-torch: compile it with torch.compile.")
    ] = False,
    runtime: Annotated[
        Literal["onnxruntime", "openvino", "tensorrt"] | None,
        typer.Option(
            help="Runtime that opens it; openvino: on a CPU; tensorrt: its engines, on this machine's cuda.",
            show_default="onnxruntime; openvino for what was exported for it",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu or cuda of this machine, or ssh://user@host[:port] for another's CPU.")
    ] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of one run.")] = 1,
    cores: Annotated[
        str, typer.Option(help="Cores of that machine to stay on, as in 0,1; all that may be used by default.")
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Samples in one run.")] = 1,
    batches: Annotated[
        str | None, typer.Option(help="Several batch sizes, as in 1,2,4,8: throughput by batch, instead of --batch.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Sessions that run at the same time, each in a thread of its own.")
    ] = 1,
    scenario: Annotated[
        Literal["single-stream", "offline"],
        typer.Option(help="Latency of one run after another, or the best throughput of all batches (1,2,4,8)."),
    ] = "single-stream",
    loadgen: Annotated[
        bool, typer.Option("--loadgen", help="Let MLCommons' LoadGen run that scenario as well, and say what it found.")
    ] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure the peak memory of each artifact as well.")] = False,
    provider: Annotated[
        Literal["cuda", "tensorrt", "tensorrt-rtx"] | None,
        typer.Option(help="What of onnxruntime computes on cuda; its CUDA provider by default."),
    ] = None,
    io_binding: Annotated[
        bool, typer.Option("--io-binding", help="On cuda with onnxruntime: inputs and outputs stay bound on the GPU.")
    ] = False,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="On cuda: launch a run's kernels as one graph.")
    ] = False,
    tf32: Annotated[
        bool, typer.Option("--tf32", help="On cuda with onnxruntime: allow TF32 in float32 products.")
    ] = False,
    sequence: Annotated[
        int | None,
        typer.Option(min=1, help="Tokens of one sample.", show_default="128, or as many as the model has positions"),
    ] = None,
    past: Annotated[int, typer.Option(min=0, help="Tokens read before, of a model with a cache.")] = 0,
    part: Annotated[
        str | None, typer.Option(help="Graph of an encoder-decoder (encoder, decoder, decoder_with_past).")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Least time to measure each artifact for.")] = 5.0,
    energy_seconds: Annotated[
        float, typer.Option(min=0.0, help="Length of the windows in which a Jetson's or GPU's power is read; 0: none.")
    ] = 10.0,
    out: Annotated[Path | None, typer.Option(help="JSON file for the reports, with every raw time.")] = None,
) -> Answer:
    """Measure latency and throughput; with --against, the paired ratio and its confidence interval as well."""
    folders = [check_artifact(folder) for folder in (artifact, against) if folder]
    check_device(device)
    if against_torch or torch_compile:
        _check_torch(against_torch, against, device, concurrency, memory, part)
    if out:
        check_output_file(out)
    sizes, bound = _read_batches(batches, batch, scenario), _read_cores(cores)
    from edgefold.cli.bench_job import Inputs, measure

    settings = {
        "runtime": runtime,
        "device": device,
        "threads": threads,
        "energy_s": energy_seconds,
        "concurrency": concurrency,
        "cores": bound,
        "memory": memory,
        "min_duration_s": seconds,
        "provider": provider,
        "io_binding": io_binding,
        "cuda_graph": cuda_graph,
        "tf32": tf32,
    }
    inputs = Inputs(sizes, sequence, past, part)
    rival: Any = {"against_torch": against_torch, "compiled": torch_compile}
    return measure(folders, settings, inputs, scenario=scenario, loadgen=loadgen, out=out, **rival)


def _check_torch(
    folder: Path | None, against: Path | None, device: str, concurrency: int, memory: bool, part: str | None
) -> None:
    """What one open session of torch on this machine can be compared in."""
    if folder is None:
        raise InputError("--torch-compile is for the model of --against-torch; give its folder.")
    if against:
        raise InputError("--against and --against-torch each name the one to compare with; give one of them.")
    if device not in LOCAL:
        raise InputError(
            f"--against-torch runs torch on this machine, and {device} is another; give --device cpu or cuda."
        )
    asked = {"--concurrency": concurrency > 1, "--memory": memory, "--part": part is not None}
    if wrong := [option for option, given in asked.items() if given]:
        raise InputError(
            f"--against-torch measures one session of one whole model; leave {wrong[0]} out, or measure the artifact "
            "alone with it."
        )
    check_model_folder(folder, "torch model")


def _read_batches(text: str | None, batch: int, scenario: str) -> tuple[int, ...]:
    """The batch sizes to measure, in the order in which they were given."""
    if text is None:
        return OFFLINE_BATCHES if scenario == "offline" and batch == 1 else (batch,)
    parts = [part.strip() for part in text.split(",")]
    if batch != 1 or not all(part.isdigit() and int(part) for part in parts) or len(set(parts)) < len(parts):
        raise InputError(f"--batches takes different numbers from 1 on, as in 1,2,4,8, and no --batch; got {text!r}.")
    return tuple(map(int, parts))


def _read_cores(text: str) -> tuple[int, ...]:
    """Numbers of cores; () where none are named."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdigit() for part in parts):
        raise InputError(f"--cores takes numbers of cores, as in 0,1; got {text!r}.")
    return tuple(map(int, parts))
