"""`--lint`: which nodes of a graph a TensorRT would refuse; of a file that is there, or of what was just exported."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefold.artifacts import MANIFEST, artifact_folder
from edgefold.cli.answers import Answer
from edgefold.cli.paths import is_packed
from edgefold.cli.tables import make_table
from edgefold.errors import GateError, InputError
from edgefold.tensorrt_modules import check_installed

if TYPE_CHECKING:
    from edgefold.exporters.tensorrt.complaints import Lint

SHOWN = 60
"""Complaints that a table shows."""


def is_graph(path: Path) -> bool:
    """Whether that is an artifact or an ONNX file, and no model to be exported."""
    return path.suffix == ".onnx" or (path / MANIFEST).is_file() or is_packed(path)


def check_lint_target(name: str) -> None:
    """Refuse an unknown TensorRT before anything heavy is imported."""
    from edgefold.exporters.tensorrt.parser_targets import read_target

    read_target(name)


def check_build(student: Path, out: Path | None, lint: str | None) -> None:
    """Refuse early what no engine can be built from, and where no TensorRT is.

    Raises:
        InputError: a bare ONNX file, nowhere to write to, or --lint beside it.
        DeviceError: no TensorRT is installed.
    """
    if lint:
        raise InputError("--lint checks ONNX for a TensorRT that is elsewhere; the build asks the one here. Give one.")
    if student.suffix == ".onnx":
        raise InputError(f"{student} is a bare graph; give the folder of an artifact, which names its dimensions.")
    if out is None:
        raise InputError("There is nowhere to write to; give --out DIR, the folder for the engine.")
    check_installed()


def lint_graphs(path: Path, target: str, out: Path | None) -> Answer:
    """The complaints about graphs that are there; status 3 where one is refused.

    Raises:
        InputError: no such file, or an output folder, into which nothing would be written.
    """
    if out is not None:
        raise InputError(f"Checking {path} writes nothing; leave --out away.")
    if not path.exists():
        raise InputError(f"The model {path} does not exist; give an artifact's folder or an .onnx file.")
    graphs = path if path.suffix == ".onnx" else artifact_folder(path)
    return add_lint(Answer({"target": target}, ()), graphs, target)


def add_lint(answer: Answer, graphs: Path, target: str) -> Answer:
    """The answer with the complaints about those graphs; its status is 3 where one is refused."""
    from edgefold.exporters import lint_onnx

    lints = lint_onnx(graphs, target)
    is_refused = any(lint.refused for lint in lints)
    return replace(
        answer,
        document=answer.document | {"lint": [lint.document() for lint in lints]},
        texts=(*answer.texts, *(_described(lint) for lint in lints)),
        exit_code=GateError.exit_code if is_refused else answer.exit_code,
    )


def _described(lint: "Lint") -> Any:
    title = f"{Path(lint.model).name} for {lint.target}: {len(lint.refused)} refused, {lint.nodes} nodes"
    if not lint.complaints:
        return f"{Path(lint.model).name} for {lint.target}: no complaint about {lint.nodes} nodes"
    shown = lint.complaints[:SHOWN]
    rows: list[tuple[str, ...]] = [(c.verdict, c.node or "(the model)", c.operator, c.what) for c in shown]
    if left := len(lint.complaints) - len(shown):
        rows.append(("", f"and {left} more", "", "--json lists all"))
    return make_table(title, ("verdict", "node", "operator", "why"), rows)
