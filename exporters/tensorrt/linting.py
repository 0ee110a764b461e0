"""lint_onnx: what a given TensorRT would refuse of a graph or run slowly, node by node, without that TensorRT."""

from pathlib import Path

from edgefold.artifacts import Artifact, load_artifact
from edgefold.errors import InputError
from edgefold.exporters.tensorrt import model_rules, operator_rules
from edgefold.exporters.tensorrt.complaints import Complaint, Lint
from edgefold.exporters.tensorrt.graph_view import GraphView, open_graph
from edgefold.exporters.tensorrt.parser_targets import ParserTarget, read_target


def lint_onnx(model: Artifact | str | Path, target: str) -> list[Lint]:
    """One answer for each graph: of an ONNX file, or of an artifact, which has several when it generates text.

    Rules come from the documentation of each release and from what TensorRT-RTX was seen to do; a graph that passes can
    still fail in the build, for kernels depend on the device.

    Args:
        target: "tensorrt-8.6" (any version from 8.5 on), or "tensorrt-rtx".

    Raises:
        InputError: an unknown target, or a file that is no ONNX model.
    """
    parser = read_target(target)
    return [_lint(path, parser) for path in _graphs(model)]


def _graphs(model: Artifact | str | Path) -> list[Path]:
    if not isinstance(model, Artifact):
        if Path(model).is_file():
            return [Path(model)]
        model = load_artifact(model)
    if model.format != "onnx":
        raise InputError(f"{model.folder} holds {model.format}; only ONNX graphs can be checked for a TensorRT.")
    names = dict.fromkeys((model.model_file, *(part.model_file for part in model.parts.values())))
    return [model.folder / name for name in names]


def _lint(path: Path, target: ParserTarget) -> Lint:
    graph = open_graph(path)
    complaints = [complaint for rule in model_rules.RULES for complaint in rule(graph, target)]
    complaints += _of_nodes(graph, target)
    complaints.sort(key=lambda complaint: complaint.verdict)
    return Lint(target.name, str(path), sum(1 for _ in graph.nodes()), tuple(complaints))


def _of_nodes(graph: GraphView, target: ParserTarget) -> list[Complaint]:
    return [
        complaint for node in graph.nodes() for rule in operator_rules.RULES for complaint in rule(graph, node, target)
    ]
