"""`edgefold compress`: a recipe in, a folded student out."""

from pathlib import Path
from typing import Annotated

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.paths import check_file
from edgefold.staging import check_output_folder


def compress_teacher(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="The job: teacher, data, plan, objective, training (YAML).")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the student.")],
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint of a run that was stopped.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew, and replace what stands in the folder.")
    ] = False,
) -> Answer:
    """Build the student of a recipe, train it, fold it and save it; a stopped run goes on with --resume."""
    check_file(recipe, "recipe")
    if not resume:
        check_output_folder(out, overwrite)
    from edgefold.recipes.recipe import load_recipe

    job = load_recipe(recipe)
    job.check_paths()
    from edgefold.cli.progress import shown_progress
    from edgefold.jobs.compression import compress

    with shown_progress() as progress:
        result = compress(job, out, resume=resume, overwrite=overwrite, progress=progress)
    return _answer(result.student, result.metrics, result.dimensions)


def _answer(student: Path, metrics: dict[str, float], dimensions: list[dict[str, object]]) -> Answer:
    from edgefold.cli.tables import make_table

    columns = ("dimension", "kind", "teacher", "student")
    rows = [(d["name"], d["kind"], d["teacher_size"], d["student_size"]) for d in dimensions]
    texts = (
        make_table("What was made smaller", columns, rows),
        make_table(
            "What was measured",
            ("figure", "value"),
            [(name.replace("_", " "), value) for name, value in metrics.items()],
        ),
        f"The student is in {student}{_opened_by(student)}. Next: edgefold export {student} --out {student}-onnx",
    )
    return Answer({"student": str(student), "metrics": metrics, "dimensions": dimensions}, texts)


def _opened_by(student: Path) -> str:
    """What else than from_pretrained opens it, if anything has to."""
    from edgefold.checkpoints import read_manifest

    if read_manifest(student)["uniform"] or not (student / "config.json").is_file():
        return ""
    return " and is opened by edgefold.load_student: no configuration of its architecture describes sizes like these"
