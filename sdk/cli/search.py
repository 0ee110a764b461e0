"""`edgefold search`: a budget in, the student that meets it out."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.devices import check_device
from edgefold.cli.paths import check_file


def search_student(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="The job (YAML); its plan is what the search replaces.")
    ],
    budget: Annotated[str, typer.Option(help="latency=5ms, speedup=4x, size=10MB or flops=200M.")],
    out: Annotated[Path, typer.Option(help="Folder for the search; given again, the search goes on.")],
    keep: Annotated[
        float, typer.Option(min=0.0, max=1.5, help="Share of the teacher's quality, on the validation data.")
    ] = 0.99,
    device: Annotated[
        str, typer.Option(help="Where latency is measured: cpu or cuda of this machine, or ssh://user@host[:port].")
    ] = "cpu",
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="On cuda: launch a pass's kernels as one graph, as small models need.")
    ] = False,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Of the latency, fp16 on a GPU and int8 on CPUs; quality is the student's in float32."),
    ] = "fp32",
    batch: Annotated[int, typer.Option(min=1, help="Rows of a pass.")] = 1,
    sequence: Annotated[int, typer.Option(min=1, help="Tokens of a row.")] = 128,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a pass.")] = 1,
    measured: Annotated[int, typer.Option(min=5, help="Random plans that the latency model is fitted to.")] = 12,
    trials: Annotated[
        int, typer.Option(min=1, help="Trainings for a third of the epochs; above 4, half for learning rates.")
    ] = 4,
    full_trials: Annotated[int, typer.Option(min=1, help="The best of them, trained whole.")] = 2,
) -> Answer:
    """Measure the device, estimate every choice, train the most promising plans, and keep the student that fits."""
    check_file(recipe, "recipe")
    check_device(device)
    from edgefold.budget.goals import parse_budget
    from edgefold.recipes.recipe import load_recipe

    wanted, job = parse_budget(budget), load_recipe(recipe)
    job.check_paths()
    from edgefold.budget.search import Effort
    from edgefold.cli.search_job import run_search

    return run_search(
        job,
        wanted,
        out,
        keep=keep,
        precision=precision,
        batch=batch,
        sequence=sequence,
        threads=threads,
        effort=Effort(measured_plans=measured, short_trials=trials, full_trials=full_trials),
        device=device,
        cuda_graph=cuda_graph,
    )
