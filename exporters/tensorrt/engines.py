"""build_engine: an ONNX artifact as an engine of TensorRT, built on the device that will run it."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgefold.artifacts import Artifact, Part, load_artifact, write_artifact
from edgefold.errors import InputError
from edgefold.exporters.tensorrt.build_process import run_build
from edgefold.exporters.tensorrt.build_requests import BuildRequest
from edgefold.exporters.tensorrt.engine_cache import default_cache
from edgefold.exporters.tensorrt.layer_facts import read_sparsity
from edgefold.exporters.tensorrt.profiles import make_profiles, share_ranges
from edgefold.staging import check_output_folder, staged_folder

ENGINE = ".engine"
LOG = ".build.log"


def build_engine(
    artifact: Artifact | str | Path,
    out: str | Path,
    *,
    profiles: Sequence[Mapping[str, Sequence[int]]] = (),
    sparse: bool = False,
    compute_capabilities: Sequence[str] = (),
    workspace_bytes: int | None = None,
    optimization_level: int | None = None,
    cache: str | Path | None = None,
    timeout_s: float = 3600.0,
    overwrite: bool = False,
) -> Artifact:
    """Build an engine for each graph of an ONNX artifact, and write an artifact that `open_session` opens.

    An engine runs on the kind of GPU and with the TensorRT that it was built with, so build it on the device; ship the
    ONNX. Precision is what the graph has. An engine that was built before comes from the cache.

    Args:
        profiles: the sizes that the engine is for: dimension -> (least, usual, largest), as in
            [{"batch": (1, 1, 8), "sequence": (1, 128, 512)}]; several are tuned each for its own.
            Of several graphs each takes the ranges of the dimensions that it has.
        sparse: whether weights that are 2:4 may run on sparse kernels; the builder chooses what is faster.
        compute_capabilities: of TensorRT-RTX, the devices to compile for, as in ["8.6"]; no GPU is needed then.
        workspace_bytes: memory that kernels may use; all there is by default.
        optimization_level: 0 (quick build) to 5 (fast engine).
        cache: folder of earlier engines and timings; $EDGEFOLD_CACHE/engines by default.
        timeout_s: when a build is given up.

    Raises:
        InputError: not an ONNX artifact, ranges that do not fit, a node that TensorRT does not take (it is named), an
            output that exists.
        DeviceError: no TensorRT, or none that works here.
        EdgefoldError: the builder gave up, crashed, or took too long; with the last lines of its log.
    """
    source = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    if source.format != "onnx":
        raise InputError(f"{source.folder} holds {source.format}; an engine is built from an onnx artifact.")
    graphs = {name: source.part(name) for name in source.parts} or {"": source}
    shared = share_ranges(profiles, {name: graph.inputs for name, graph in graphs.items()})
    shapes = {name: make_profiles(graph.inputs, shared[name], source.folder) for name, graph in graphs.items()}
    check_output_folder(out, overwrite)
    with staged_folder(out, overwrite) as folder:
        facts = {}
        for name, graph in graphs.items():
            engine = folder / _engine_name(graph.model_file)
            engine.parent.mkdir(parents=True, exist_ok=True)
            request = BuildRequest(
                model=str(graph.model_path.absolute()),
                model_sha256=tuple(graph.files[file].sha256 for file in graph.model_files),
                engine=str(engine),
                cache=str(Path(cache or default_cache()).absolute()),
                profiles=tuple(shapes[name]),
                sparse=sparse,
                compute_capabilities=tuple(compute_capabilities),
                workspace_bytes=workspace_bytes,
                optimization_level=optimization_level,
            )
            log = engine.with_suffix(LOG)
            built = run_build(request, log, timeout_s)
            sparsity = read_sparsity(log.read_text(errors="replace")) if sparse else None
            facts[name or "model"] = {**asdict(built), "profiles": shapes[name], "sparsity": sparsity}
        _copy_the_rest(source, folder)
        _write(source, folder, facts)
    return load_artifact(out)


def _engine_name(model_file: str) -> str:
    return str(Path(model_file).with_suffix(ENGINE))


def _copy_the_rest(source: Artifact, folder: Path) -> None:
    """Configuration and tokenizer."""
    for name in set(source.files) - set(source.model_files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.folder / name, folder / name)


def _write(source: Artifact, folder: Path, facts: Mapping[str, Any]) -> None:
    parts = {
        name: Part(model_file=_engine_name(part.model_file), inputs=part.inputs, outputs=part.outputs)
        for name, part in source.parts.items()
    }
    write_artifact(
        folder,
        format="tensorrt",
        precision=source.precision,
        target=next(iter(facts.values()))["tensorrt"],
        model_file=_engine_name(source.model_file),
        inputs=source.inputs,
        outputs=source.outputs,
        task=source.task,
        parts=parts or None,
        generation=source.generation,
        lineage={**source.lineage, "engine": facts},
    )
