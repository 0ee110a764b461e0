"""`edgefold verify`: does an artifact compute what it was exported from?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgefold.artifacts import artifact_folder
from edgefold.cli.answers import Answer
from edgefold.cli.devices import check_device
from edgefold.cli.paths import check_artifact, check_model_folder, is_packed
from edgefold.cli.samples import check_samples, find_sample_kind, input_facts, read_samples


def verify_artifact(
    artifact: Annotated[Path, typer.Argument(metavar="ARTIFACT", help="Artifact: a folder, or what pack made of it.")],
    against: Annotated[Path, typer.Option(help="Folder of the student, checkpoint or artifact to compare with.")],
    device: Annotated[
        str, typer.Option(help="Where ARTIFACT runs: cpu or cuda of this machine, or ssh://user@host[:port].")
    ] = "cpu",
    runtime: Annotated[
        Literal["onnxruntime", "openvino", "tensorrt"] | None,
        typer.Option(
            help="Runtime that ARTIFACT is opened with.",
            show_default="onnxruntime; openvino for what was exported for it",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Samples to compare on (csv, tsv, jsonl, txt; images: npz or folder); else a few made up."),
    ] = None,
    text: Annotated[str, typer.Option(help="Column of the text in that file.")] = "text",
    text_pair: Annotated[
        str | None, typer.Option(help="Column of the second text, of a classifier that reads two.")
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Samples to compare on.")] = 256,
    max_length: Annotated[int, typer.Option(min=2, help="Tokens kept of each text.")] = 128,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Largest error allowed in any output (fp32: 1e-4, fp16: 1e-2 of the largest, int8: not looked at).",
        ),
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="Least share of equal decisions, argmax (fp32: 0, int8: 0.95)."),
    ] = None,
) -> Answer:
    """Compare every output on the same inputs; exit status 3 when they differ by more than is allowed."""
    check_artifact(artifact)
    is_artifact = (against / "artifact.json").is_file() or is_packed(against)
    (check_artifact if is_artifact else check_model_folder)(against, "reference")
    check_device(device)
    folder = artifact_folder(artifact)
    kind = find_sample_kind(folder, text_pair, data)
    if data:
        check_samples(data, "data file", kind)
    names = [each["name"] for each in input_facts(folder)]
    found = read_samples(kind, data, text, samples, text_pair, names) if data else []
    from edgefold.cli.verify_job import compare

    limits = {"tolerance": tolerance, "agreement": agreement}
    return compare(artifact, against, kind, found, device=device, runtime=runtime, max_length=max_length, **limits)
