"""`--lint`: which nodes of a graph a TensorRT would refuse; of a file that is there, or of a student being exported."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefold.artifacts import MANIFEST
from edgefold.cli.answers import Answer
from edgefold.cli.tables import make_table
from edgefold.errors import GateError, InputError

if TYPE_CHECKING:
    from edgefold.artifacts import Artifact
    from edgefold.exporters.tensorrt.complaints import Lint

NAMED = 5
"""Complaints that an error message repeats."""
SHOWN = 60
"""Complaints that a table shows."""


def is_graph(path: Path) -> bool:
    """Whether that is an artifact or an ONNX file, and no model to be exported."""
    return path.suffix == ".onnx" or (path / MANIFEST).is_file()


def check_lint_target(name: str) -> None:
    """Refuse an unknown TensorRT before anything heavy is imported."""
    from edgefold.exporters.tensorrt.parser_targets import read_target

    read_target(name)


def lint_graphs(path: Path, target: str, out: Path | None) -> Answer:
    """The complaints about graphs that are there; status 3 where one is refused.

    Raises:
        InputError: no such file, or an output folder, into which nothing would be written.
    """
    if out is not None:
        raise InputError(f"Checking {path} writes nothing; leave --out away.")
    if not path.exists():
        raise InputError(f"The model {path} does not exist; give an artifact's folder or an .onnx file.")
    from edgefold.exporters import lint_onnx

    lints = lint_onnx(path, target)
    is_refused = any(lint.refused for lint in lints)
    document = {"target": target, "lint": [lint.document() for lint in lints]}
    return Answer(document, describe_lints(lints), exit_code=GateError.exit_code if is_refused else 0)


def check_graphs(artifact: "Artifact", target: str) -> "list[Lint]":
    """The answers about an artifact that is about to be handed out.

    Raises:
        GateError: naming the nodes that are refused.
    """
    from edgefold.exporters import lint_onnx

    lints = lint_onnx(artifact, target)
    for lint in lints:
        if lint.refused:
            told = "; ".join(f"{c.node} ({c.operator}) {c.what}" for c in lint.refused[:NAMED])
            more = len(lint.refused) - NAMED
            raise GateError(
                f"{target} would refuse {Path(lint.model).name}: {told}{f'; and {more} more' if more > 0 else ''}. "
                "Nothing was written."
            )
    return lints


def describe_lints(lints: "Sequence[Lint]") -> tuple[Any, ...]:
    """One table for each graph with complaints, one line for each without."""
    return tuple(_described(lint) for lint in lints)


def _described(lint: "Lint") -> Any:
    title = f"{Path(lint.model).name} for {lint.target}: {len(lint.refused)} refused, {lint.nodes} nodes"
    if not lint.complaints:
        return f"{Path(lint.model).name} for {lint.target}: no complaint about {lint.nodes} nodes"
    shown = lint.complaints[:SHOWN]
    rows: list[tuple[str, ...]] = [(c.verdict, c.node or "(the model)", c.operator, c.what) for c in shown]
    if left := len(lint.complaints) - len(shown):
        rows.append(("", f"and {left} more", "", "--json lists all"))
    return make_table(title, ("verdict", "node", "operator", "why"), rows)
