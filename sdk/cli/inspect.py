"""`edgefold inspect`: the dimensions of a model, and what may be done with each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from edgefold.cli.answers import Answer
from edgefold.cli.hub import go_online
from edgefold.cli.paths import check_model_folder
from edgefold.cli.samples import check_optimum, find_kind, has_optimum, input_facts
from edgefold.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

HUB = "hub:"
OF_ONES_OWN = ("tensors", "images")
"""Kinds of a module that no configuration describes, and whose folder tells its inputs."""
NAMELESS = ("channels", "units", "linear")
"""Families whose names do not say where in a model they are."""
Task = Literal[
    "auto",
    "text-classification",
    "token-classification",
    "question-answering",
    "fill-mask",
    "image-classification",
    "text-generation",
    "text2text-generation",
    "automatic-speech-recognition",
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
    from edgefold.cli.models import count_parameters
    from edgefold.dimensions import trace

    module, inputs = _open(source, None if task == "auto" else task, sequence)
    rows = next(iter(inputs.values())).shape[0]
    graph = trace(module, inputs)
    dimensions = [
        {
            "name": d.name,
            "kind": d.kind,
            "size": d.size,
            "parameters": d.parameters,
            "macs": d.macs // rows,
            "allowed": d.allowed,
            "reason": d.reason,
            "along": list(dict.fromkeys(member.parameter for member in d.members)),
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
        "inputs": {name: list(value.shape[1:]) for name, value in inputs.items()},
        "dimensions": dimensions,
    }
    return Answer(document, _texts(document, dimensions))


def _open(source: Path | str, task: str | None, sequence: int) -> tuple["nn.Module", dict[str, "Tensor"]]:
    """A model with its weights made up, and inputs of two rows, as a trace takes a single one for a constant.

    Tokens and images are made up here, all else by optimum, which runs the model with it; on the meta device few run.
    """
    from edgefold.cli.models import made_up_inputs, makes_up, open_architecture

    if isinstance(source, Path) and not (source / "config.json").is_file() and find_kind(source) in OF_ONES_OWN:
        return open_architecture(source), _own_inputs(source)
    module = open_architecture(source, task)
    if makes_up(module) and not (isinstance(source, Path) and find_kind(source) == "made-up" and has_optimum()):
        return module, made_up_inputs(module, 2, sequence)
    check_optimum(type(module).__name__, "edgefold.trace(model, inputs)")
    from edgefold.cli.optimum_inputs import make_inputs

    module = open_architecture(source, task, device="cpu")
    return module, make_inputs(module, source if isinstance(source, Path) else None)[0]


def _own_inputs(folder: Path) -> dict[str, "Tensor"]:
    """Such as a module of one's own was saved with."""
    from edgefold.graphs.input_facts import make_up_inputs

    facts = input_facts(folder)
    if not facts:
        raise InputError(
            f"{folder} does not tell what its module reads; save it again, with inputs: save_student(module, folder, "
            "inputs=...)."
        )
    return make_up_inputs(facts)


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

    columns = ["dimension", "number", "kind", "size", "parameters", "MACs", "may be done"]
    rows = group_rows(dimensions)
    places = group_places(dimensions)
    if sum(map(bool, places)) > 1:
        columns.append("first along")
        rows = [(*row, place) for row, place in zip(rows, places, strict=True)]
    sizes = ", ".join(
        " ".join([name, " x ".join(map(str, shape))]).strip() for name, shape in document["inputs"].items()
    )
    summary = (
        f"{document['class']}: {document['parameters']:,} parameters, {document['macs']:,} multiply-adds with weights "
        f"for one row of {sizes}. Parameters and MACs are those of one dimension of a row; a "
        "weight counts for each dimension it runs along."
    )
    return make_table(f"Dimensions of {document['model']}", columns, rows), summary


def group_rows(dimensions: list[dict[str, Any]]) -> list[tuple[object, ...]]:
    """One row for all dimensions of a family (ffn.0, ffn.1, ...) that differ in nothing but the name."""
    return [(_together([d["name"] for d in alike]), len(alike), *facts) for facts, alike in _groups(dimensions)]


def group_places(dimensions: list[dict[str, Any]]) -> list[str]:
    """For each of these rows whose names do not tell it the modules that its dimensions run along first."""
    return [
        " … ".join(dict.fromkeys((_module(alike[0]), _module(alike[-1]))))
        if alike[0]["name"].split(".")[0] in NAMELESS and all(d["along"] for d in alike)
        else ""
        for _, alike in _groups(dimensions)
    ]


def _groups(dimensions: list[dict[str, Any]]) -> list[tuple[tuple[object, ...], list[dict[str, Any]]]]:
    rows: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for d in dimensions:
        facts = (d["kind"], d["size"], d["parameters"], d["macs"], d["reason"] or d["allowed"])
        rows.setdefault((d["name"].split(".")[0], *facts), []).append(d)
    return [(key[1:], alike) for key, alike in rows.items()]


def _module(dimension: dict[str, Any]) -> str:
    parameter: str = dimension["along"][0]
    return parameter.rpartition(".")[0] or parameter


def _together(names: list[str]) -> str:
    """ffn.0 … ffn.5 where all between them belong there too; heads.2, heads.4 or heads.0, heads.2 … heads.10 else."""
    ends = [name.rpartition(".")[2] for name in names]
    numbers = [int(end) for end in ends if end.isdecimal()]
    if len(names) > 1 and numbers == list(range(numbers[0], numbers[0] + len(names))):
        return f"{names[0]} … {names[-1]}"
    return ", ".join(names) if len(names) < 3 else f"{names[0]}, {names[1]} … {names[-1]}"
