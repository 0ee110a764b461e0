"""The build behind `edgefold export --format tensorrt`: an engine for the GPU here, or for those that RTX is told."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgefold.artifacts import Artifact
from edgefold.cli.answers import Answer
from edgefold.cli.tables import make_table
from edgefold.exporters import build_engine


def build_exported(export: Callable[[Path], Any], out: Path, settings: Mapping[str, Any]) -> Answer:
    """Export to a folder that is gone afterwards, and build from that."""
    with tempfile.TemporaryDirectory() as folder:
        export(Path(folder, "onnx"))
        return build_from(Path(folder, "onnx"), out, settings)


def build_from(artifact: Path, out: Path, settings: Mapping[str, Any]) -> Answer:
    """Build from an ONNX artifact, and say what became of its layers.

    Raises:
        InputError: a node that TensorRT does not take, or ranges that do not fit.
        DeviceError: no TensorRT, or none that works here.
    """
    return _answer(out, build_engine(artifact, out, **settings))


def _answer(out: Path, built: Artifact) -> Answer:
    facts = built.lineage["engine"]
    document = {
        "artifact": str(out),
        "format": built.format,
        "precision": built.precision,
        "target": built.target,
        "size_bytes": built.size_bytes,
        "engine": facts,
    }
    rows = [(name.replace("_", " "), value) for name, value in document.items() if name != "engine"]
    for name, engine in facts.items():
        rows += [(f"{name}: {what}", told) for what, told in _told(engine).items()]
    return Answer(document, (make_table("Engine", ("fact", "value"), rows), f"Next: edgefold bench {out}"))


def _told(engine: Mapping[str, Any]) -> dict[str, Any]:
    """What was built, for people."""
    layers, sparsity = engine["layers"], engine["sparsity"]
    capabilities = ", ".join(engine["compute_capabilities"])
    where = engine["gpu"] or f"no GPU here{f'; compiled for {capabilities}' if capabilities else ''}"
    told = {
        "built on": where,
        "built in": "taken from the cache" if engine["from_cache"] else f"{engine['build_s']:.1f} s",
        "precisions of the graph": ", ".join(engine["precisions"]),
        "layers": "not told without a GPU",
    }
    if layers:
        counts = ", ".join(f"{count} {name}" for name, count in layers["precisions"].items())
        told["layers"] = f"{layers['total']} ({counts}), {layers['sparse']} on sparse kernels"
    if sparsity:
        told["2:4 sparsity"] = f"{sparsity['chosen']} of {sparsity['eligible']} layers on sparse kernels"
    return told
