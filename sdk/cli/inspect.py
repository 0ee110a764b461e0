"""`edgefold inspect`: the dimensions of a model, and what may be done with each."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.hub import go_online
from edgefold.cli.paths import check_model_folder
from edgefold.errors import InputError

HUB = "hub:"
Task = Literal[
    "auto",
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
    "image-classification",
    "feature-extraction",
]


def inspect_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="Folder of a checkpoint or student, or hub:ORGANISATION/NAME to download one."
        ),
    ],
    task: Annotated[Task, typer.Option(help="Which head to open; auto reads it from the configuration.")] = "auto",
    sequence: Annotated[int, typer.Option(min=2, help="Tokens for which the multiply-adds are counted.")] = 128,
) -> Answer:
    """Trace a model and list its dimensions: size, kind, parameters, multiply-adds, what a plan may do."""
    source = _resolve_source(model)
    from edgefold.cli.models import count_parameters, made_up_inputs, open_architecture
    from edgefold.dimensions import trace

    module = open_architecture(source, None if task == "auto" else task)
    rows = 2  # torch.export takes a batch of one for a constant
    graph = trace(module, made_up_inputs(module, rows, sequence))
    dimensions = [
        {
            "name": d.name,
            "kind": d.kind,
            "size": d.size,
            "parameters": d.parameters,
            "macs": d.macs // rows,
            "allowed": d.allowed,
            "reason": d.reason,
        }
        for d in graph
    ]
    macs = sum(read.macs for read in graph.reads) // rows
    document = {
        "model": str(source),
        "class": type(module).__name__,
        "parameters": count_parameters(module),
        "macs": macs,
        "sequence": sequence,
        "dimensions": dimensions,
    }
    return Answer(document, _texts(document, dimensions))


def _resolve_source(model: str) -> Path | str:
    """A Path for a folder; a string for a model of the hub, which only then may be reached."""
    if not model.startswith(HUB):
        try:
            return check_model_folder(Path(model))
        except InputError as error:
            raise InputError(f"{error} To download a model, write {HUB}ORGANISATION/NAME.") from None
    go_online()
    return model.removeprefix(HUB)


def _texts(document: dict[str, Any], dimensions: list[dict[str, Any]]) -> tuple[object, ...]:
    from edgefold.cli.tables import make_table

    columns = ("dimension", "number", "kind", "size", "parameters", "MACs", "may be done")
    summary = (
        f"{document['class']}: {document['parameters']:,} parameters, {document['macs']:,} multiply-adds with weights "
        f"for one input of {document['sequence']} tokens. Parameters and MACs are those of one dimension of a row; a "
        "weight counts for each dimension it runs along."
    )
    return make_table(f"Dimensions of {document['model']}", columns, group_rows(dimensions)), summary


def group_rows(dimensions: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """One row for all dimensions of a family (ffn.0, ffn.1, ...) that differ in nothing but the name."""
    rows: dict[tuple[object, ...], list[str]] = {}
    for d in dimensions:
        family = d["name"].split(".")[0]
        facts = (d["kind"], d["size"], d["parameters"], d["macs"], d["reason"] or d["allowed"])
        rows.setdefault((family, *facts), []).append(d["name"])
    return [
        (names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}", len(names), *facts)
        for (_, *facts), names in rows.items()
    ]
