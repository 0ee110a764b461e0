"""The typer application: every command in one table."""

from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

from edgefold.cli.answers import Answer, answering
from edgefold.cli.bench import bench_artifact
from edgefold.cli.compare import compare_files
from edgefold.cli.compress import compress_teacher
from edgefold.cli.demo import show_demo
from edgefold.cli.doctor import examine_machine
from edgefold.cli.export import export_model
from edgefold.cli.inspect import inspect_model
from edgefold.cli.pack import pack_files
from edgefold.cli.report import report_files
from edgefold.cli.search import search_student
from edgefold.cli.verify import verify_artifact

COMMANDS: dict[str, tuple[Callable[..., Answer], str]] = {
    "demo": (show_demo, "edgefold demo --out out/demo --quick"),
    "inspect": (inspect_model, "edgefold inspect out/demo/teacher"),
    "compress": (compress_teacher, "edgefold compress recipe.yaml --out out/reviews"),
    "export": (
        export_model,
        "edgefold export out/reviews --out out/reviews-int8 --precision int8 --calibration train.csv",
    ),
    "verify": (verify_artifact, "edgefold verify out/reviews-int8 --against out/reviews --data test.csv"),
    "bench": (bench_artifact, "edgefold bench out/reviews-int8 --against out/teacher-fp32 --out report.json"),
    "pack": (pack_files, "edgefold pack out/reviews-int8 --out reviews-int8.zip"),
    "compare": (compare_files, "edgefold compare monday.json friday.json"),
    "report": (report_files, "edgefold report here.json jetson.json --out report.html"),
    "search": (search_student, "edgefold search recipe.yaml --budget speedup=6x --keep 0.99 --out out/search"),
    "doctor": (examine_machine, "edgefold doctor --device ssh://nvidia@jetson"),
}
"""Name -> what it does, and an example."""

app = typer.Typer(
    help="Train a network smaller, fold what was trained into plain weights, export it, measure it on its device.",
    epilog="Exit status: 0 done, 1 the job failed, 2 bad usage or input, 3 a gate was missed, 4 no such device."
    "\n\nExample: edgefold demo --out out/demo --quick",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for name, (function, example) in COMMANDS.items():
    app.command(name, epilog=f"Example: {example}")(answering(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"edgefold {version('edgefold')}")
        raise typer.Exit


@app.callback()
def start(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options that stand before the command."""
