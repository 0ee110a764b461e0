"""`edgefold export`: a student or checkpoint in, an artifact out; of an ONNX artifact, an engine."""

import functools
import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from edgefold.artifacts import Precision
from edgefold.cli.answers import Answer
from edgefold.cli.layout_checks import check_layout
from edgefold.cli.linting import add_lint, check_build, check_lint_target, is_graph, lint_graphs
from edgefold.cli.paths import check_model_folder
from edgefold.cli.ranges import read_ranges
from edgefold.cli.samples import (
    check_made_up,
    check_samples,
    find_sample_kind,
    generates_text,
    input_facts,
    read_samples,
)
from edgefold.errors import InputError
from edgefold.openvino_modules import can_quantize
from edgefold.staging import check_output_folder

Target = Literal[
    "cpu-x86",
    "cpu-x86-vnni",
    "cpu-arm",
    "openvino",
    "tensorrt",
    "tensorrt-8.5",
    "tensorrt-8.6",
    "tensorrt-10",
    "tensorrt-11",
    "tensorrt-rtx",
]
Layout = Literal["optimum", "transformers.js"]
THIS_MACHINE: Target = "cpu-arm" if platform.machine() in ("aarch64", "arm64") else "cpu-x86"
CPU_FLAGS = Path("/proc/cpuinfo")


def export_model(
    student: Annotated[
        Path,
        typer.Argument(
            metavar="STUDENT",
            help="Folder of a student, or of any checkpoint. For --format tensorrt and --lint also an ONNX artifact.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the artifact.")] = None,
    kind: Annotated[
        Literal["onnx", "tensorrt"],
        typer.Option("--format", help="Kind of the artifact; an engine of tensorrt is built where it will run."),
    ] = "onnx",
    precision: Annotated[
        Precision,
        typer.Option(help="fp16 and int8 of everything that bears it; weight-int8 and int4 of weights alone."),
    ] = "fp32",
    target: Annotated[
        Target | None,
        typer.Option(
            help="What it is for: decides the opset and how int8 is encoded; openvino: on this processor, by NNCF.",
            show_default="this processor; tensorrt for an engine",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            help="Else the newest that the target reads. In int8 for x86 attention is one operator, of 23, which ONNX "
            "Runtime reads from 1.24 on; 20 is for older ones."
        ),
    ] = None,
    quantization: Annotated[
        Literal["static", "dynamic"] | None,
        typer.Option(
            help="Scales of int8 fixed from --calibration (static), or found in every run (dynamic); else both are "
            "measured on it, and the faster that keeps fp32's outputs is taken; without --target, that of OpenVINO "
            "too where edgefold[openvino-int8] is installed. Of generated text: dynamic."
        ),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Show what int8 of each layer alone does to the outputs.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Samples like those it will see, for static int8 (csv, tsv, jsonl, txt; images: npz or folder; "
            "speech: jsonl). For text generation: the texts it is compared with torch on."
        ),
    ] = None,
    text: Annotated[str, typer.Option(help="Column of the text in that file.")] = "text",
    text_pair: Annotated[
        str | None, typer.Option(help="Column of the second text, of a classifier that reads two.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to calibrate with.")] = 256,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens kept of each text.")] = 128,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RANGES",
            help="Sizes of an engine, dimension=least:usual:largest, as in batch=1:1:8,sequence=1:128:512; may be "
            "repeated.",
        ),
    ] = None,
    sparse: Annotated[
        bool, typer.Option("--sparse", help="Let an engine run 2:4 weights on sparse kernels where they are faster.")
    ] = False,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(metavar="N.N", help="GPU that TensorRT-RTX compiles for, as in 8.6; may be repeated."),
    ] = None,
    build_seconds: Annotated[float, typer.Option(min=1, help="When the build of an engine is given up.")] = 3600.0,
    lint: Annotated[
        str | None,
        typer.Option(
            metavar="TENSORRT",
            help="Name what that TensorRT would refuse: tensorrt-8.5 and later, tensorrt-rtx. Status 3 where it would.",
        ),
    ] = None,
    layout: Annotated[
        Layout,
        typer.Option(
            help="Who opens the folder as well: optimum; or transformers.js too, whose graphs stand in onnx/."
        ),
    ] = "optimum",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands in the output folder.")] = False,
) -> Answer:
    """Export a student to ONNX, checked against torch before it is handed out; or build an engine of TensorRT."""
    building = {
        "profiles": read_ranges(profile or ()),
        "sparse": sparse,
        "compute_capabilities": compute_capability or [],
        "timeout_s": build_seconds,
        "overwrite": overwrite,
    }
    if layout == "transformers.js":
        check_layout(kind, student)
    if kind == "tensorrt":
        check_build(student, out, lint)
        if out and is_graph(student):
            check_output_folder(out, overwrite, [student])
            from edgefold.cli.build_job import build_from

            return build_from(student, out, building)
    elif profile or sparse or compute_capability:
        raise InputError("--profile, --sparse and --compute-capability are of engines; give --format tensorrt too.")
    if lint:
        check_lint_target(lint)
        if is_graph(student):
            return lint_graphs(student, lint, out)
    check_model_folder(student, "student")
    if out is None:
        raise InputError("There is nowhere to write to; give --out DIR, the folder for the artifact.")
    check_output_folder(out, overwrite, [student, *([calibration] if calibration else [])])
    wanted: Target = target or ("tensorrt" if kind == "tensorrt" else THIS_MACHINE)
    is_text = generates_text(student)
    reads = find_sample_kind(student, text_pair, calibration)
    if reads == "made-up":
        check_made_up(student, calibration, quantization)
    is_made_up = reads == "made-up" or (reads == "tensors" and not calibration)
    method = "dynamic" if quantization is None and (is_text or is_made_up) else quantization
    _check(precision, method, calibration, is_text, sensitivity)
    if calibration:
        check_samples(calibration, "calibration file", reads)
    names = [each["name"] for each in input_facts(student)] if reads == "tensors" else []
    found = read_samples(reads, calibration, text, samples, text_pair, names) if calibration else []
    from edgefold.cli.export_job import export_checkpoint

    export = functools.partial(
        export_checkpoint,
        student,
        precision=precision,
        target=wanted,
        others=("openvino",) if target is None and kind == "onnx" and layout == "optimum" and can_quantize() else (),
        opset=opset,
        quantization=method,
        kind=reads,
        samples=found,
        max_length=max_length,
        runs_here=_runs_here(wanted),
        shows_layers=sensitivity,
        layout=layout,
        overwrite=overwrite,
    )
    if kind == "tensorrt":
        from edgefold.cli.build_job import build_exported

        return build_exported(export, out, building)
    return add_lint(export(out), out, lint) if lint else export(out)


def _runs_here(target: Target) -> bool:
    """Whether this machine's processor is such a target."""
    if target == "openvino":
        return find_spec("openvino") is not None
    if target == "cpu-x86-vnni":
        return CPU_FLAGS.is_file() and "vnni" in CPU_FLAGS.read_text(encoding="utf-8")
    return target == THIS_MACHINE


def _check(
    precision: Precision, method: str | None, calibration: Path | None, is_text: bool, sensitivity: bool
) -> None:
    """Refuse early what does not go together."""
    if sensitivity and (precision != "int8" or method):
        raise InputError(
            "--sensitivity is measured where int8 is chosen: give --precision int8 and --calibration FILE, and no "
            "--quantization, of a model that does not generate text."
        )
    if precision == "int8" and method == "static" and is_text:
        raise InputError(
            "Static int8 is not there yet for models that generate text; choose --quantization dynamic, which is "
            "gated on the likeliest token."
        )
    if precision == "int8" and method != "dynamic" and not calibration:
        raise InputError(
            "Static int8 needs samples to find its scales: give --calibration FILE (csv, tsv, jsonl, txt; for images "
            "npz or a folder; a few hundred like those it will see), or choose --quantization dynamic."
        )
