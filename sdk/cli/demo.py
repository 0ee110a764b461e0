"""`edgefold demo`: the whole job on a real model and real text, offline."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgefold.cli.answers import Answer
from edgefold.staging import check_output_folder


def show_demo(
    out: Annotated[Path, typer.Option(help="Folder for the models, the figures and report.html.")] = Path("out/demo"),
    quick: Annotated[
        bool, typer.Option("--quick", help="About two minutes: fewer texts and epochs, weaker figures.")
    ] = False,
    rivals: Annotated[
        bool, typer.Option("--rivals", help="Train the rivals as well, each for the same number of seconds.")
    ] = False,
    width: Annotated[Literal["third", "half"], typer.Option(help="Width of the student.")] = "third",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the training.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what stands in the output folder.")] = False,
) -> Answer:
    """Fine-tune MiniLM on movie reviews, compress it, export it, measure it, and write a report."""
    check_output_folder(out, overwrite)
    from edgefold.cli.demo_job import run_demo

    return run_demo(out, quick=quick, rivals=rivals, width=width, seed=seed, overwrite=overwrite)
