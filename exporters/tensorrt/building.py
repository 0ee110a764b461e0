"""The building process: reads a request, builds one engine with whatever TensorRT is here, writes the answer.

One path from TensorRT 8.5 to 11 and TensorRT-RTX: what a release has is asked of it, never looked up by its version.
Precision is the graph's: half-precision tensors and quantize nodes stay what they are; only TensorRT 8, which types its
networks weakly, also gets the flag that lets it use them, and may then run other layers in fp16 too.

Run as `python -m edgefold.exporters.tensorrt.building REQUEST ANSWER`; log lines go to stderr.
"""

import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from edgefold.errors import DeviceError, EdgefoldError, InputError
from edgefold.exporters.tensorrt.build_requests import BuildFacts, BuildRequest, read_request
from edgefold.exporters.tensorrt.engine_cache import find_engine, keep_engine, keep_timings, key_of, read_timings
from edgefold.exporters.tensorrt.layer_facts import read_layers
from edgefold.nvidia_driver import Gpu, read_gpu
from edgefold.tensorrt_modules import describe, import_tensorrt, is_rtx

PRECISIONS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8", "INT4": "int4"}
"""DataType -> its name here."""
WEAK_FLAGS = {"fp16": "FP16", "int8": "INT8", "fp8": "FP8"}
"""What lets a weakly typed network use a precision."""
TOLD_ERRORS = 5


def build(request: BuildRequest) -> BuildFacts:
    """Build, or take from the cache.

    Raises:
        InputError: a node that the parser does not take, sizes or settings that do not fit.
        DeviceError: no TensorRT, or none that works here.
        EdgefoldError: the builder gave up.
    """
    trt = import_tensorrt()
    gpu = read_gpu()
    cache, out = Path(request.cache), Path(request.engine)
    here = {"tensorrt": describe(trt), "gpu": asdict(gpu) if gpu else None}
    key = key_of({**here, "request": request.decisive()})
    if kept := find_engine(cache, key, out):
        return replace(BuildFacts(**kept), from_cache=True)
    facts = _build_anew(trt, gpu, request, key_of(here))
    keep_engine(cache, key, out, asdict(facts))
    return facts


def _build_anew(trt: ModuleType, gpu: Gpu | None, request: BuildRequest, timings: str) -> BuildFacts:
    started = time.perf_counter()
    logger = trt.Logger(trt.Logger.INFO)
    builder = _start(trt, gpu, logger)
    network = builder.create_network(creation_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request.model):
        raise InputError(f"{describe(trt)} does not take {Path(request.model).name}: {describe_errors(parser)}.")
    found = find_precisions(network)
    config = _configure(trt, builder, network, request, found)
    for shapes in request.profiles:
        config.add_optimization_profile(_profile(builder, network, shapes))
    cache = _lend_timings(trt, config, read_timings(Path(request.cache), timings))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EdgefoldError(f"{describe(trt)} took the graph and built no engine from it.")
    Path(request.engine).write_bytes(memoryview(plan))
    if cache is not None and (learnt := bytes(memoryview(config.get_timing_cache().serialize()))):
        keep_timings(Path(request.cache), timings, learnt)
    return BuildFacts(
        tensorrt=describe(trt),
        module=trt.__name__,
        gpu=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else None,
        compute_capabilities=request.compute_capabilities,
        precisions=found,
        network_layers=network.num_layers,
        layers=_inspect(trt, logger, plan) if gpu else None,
        build_s=time.perf_counter() - started,
    )


def _start(trt: ModuleType, gpu: Gpu | None, logger: Any) -> Any:
    """The builder; TensorRT needs a GPU for it, TensorRT-RTX does not."""
    if hasattr(trt, "init_libnvinfer_plugins"):
        trt.init_libnvinfer_plugins(logger, "")
    try:
        builder = trt.Builder(logger)
    except (TypeError, RuntimeError):  # pybind's way to say that it got a null pointer
        builder = None
    if builder is None:
        where = f"although the driver shows {gpu.name}" if gpu else "and no GPU is visible"
        raise DeviceError(f"{describe(trt)} cannot start a builder here, {where}; build on the device itself.")
    return builder


def creation_flags(trt: ModuleType) -> int:
    """Explicit batch where it is still a flag, strong typing where it is known."""
    flags = trt.NetworkDefinitionCreationFlag
    return sum(1 << int(getattr(flags, name)) for name in ("EXPLICIT_BATCH", "STRONGLY_TYPED") if hasattr(flags, name))


def describe_errors(parser: Any) -> str:
    """The parser's errors, each with its node."""
    errors = [parser.get_error(index) for index in range(min(parser.num_errors, TOLD_ERRORS))]
    return "; ".join(f"{_node_of(error)}: {_said(error)}" for error in errors) or "no reason given"


def _said(error: Any) -> str:
    """Of an operator without an importer TensorRT-RTX says "false"."""
    said = " ".join(error.desc().split())
    return "is not supported" if said == "false" else said


def _node_of(error: Any) -> str:
    """A release before 10 tells the number alone."""
    if hasattr(error, "node_name") and (error.node_name() or error.node_operator()):
        return f"node {error.node_name()} ({error.node_operator()})"
    return f"node number {error.node()}" if error.node() >= 0 else "its inputs or outputs"


def find_precisions(network: Any) -> tuple[str, ...]:
    """The precisions of all tensors and weights that the parsed network has."""
    found = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        found |= {layer.get_output(number).dtype.name for number in range(layer.num_outputs)}
    return tuple(precision for name, precision in PRECISIONS.items() if name in found)


def _configure(trt: ModuleType, builder: Any, network: Any, request: BuildRequest, found: tuple[str, ...]) -> Any:
    config = builder.create_builder_config()
    if hasattr(config, "profiling_verbosity"):
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if request.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_bytes)
    if request.optimization_level is not None:
        if not hasattr(config, "builder_optimization_level"):
            raise InputError(f"{describe(trt)} has no optimization levels; leave the level away.")
        config.builder_optimization_level = request.optimization_level
    if request.sparse:
        config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        for flag in (WEAK_FLAGS[name] for name in found if name in WEAK_FLAGS):
            config.set_flag(getattr(trt.BuilderFlag, flag))
    if request.compute_capabilities:
        _compile_for(trt, config, request.compute_capabilities)
    return config


def _compile_for(trt: ModuleType, config: Any, wanted: tuple[str, ...]) -> None:
    """Other devices than the one here, which only TensorRT-RTX can."""
    if not hasattr(config, "set_compute_capability"):
        raise InputError(f"{describe(trt)} builds for the GPU it runs on alone; leave compute capabilities away.")
    members = trt.ComputeCapability.__members__
    known = {f"{name[2:-1]}.{name[-1]}": member for name, member in members.items() if name.startswith("SM")}
    if unknown := [capability for capability in wanted if capability not in known]:
        raise InputError(
            f"{describe(trt)} does not compile for compute capability {unknown[0]}; it does for {', '.join(known)}."
        )
    config.num_compute_capabilities = len(wanted)
    for index, capability in enumerate(wanted):
        config.set_compute_capability(known[capability], index)


def _profile(builder: Any, network: Any, shapes: dict[str, Any]) -> Any:
    profile = builder.create_optimization_profile()
    inputs = [network.get_input(index).name for index in range(network.num_inputs)]
    if set(inputs) != set(shapes):
        raise InputError(f"The graph takes {', '.join(inputs)}; its artifact says {', '.join(shapes)}.")
    for name, (least, usual, largest) in shapes.items():
        profile.set_shape(name, tuple(least), tuple(usual), tuple(largest))
    if not profile:
        raise InputError(f"The ranges of {', '.join(shapes)} do not fit together; give least <= usual <= largest.")
    return profile


def _lend_timings(trt: ModuleType, config: Any, kept: bytes) -> Any:
    """Kernel timings of earlier builds; a cache that this device does not take is begun anew. TensorRT-RTX has none."""
    if is_rtx(trt) or not hasattr(config, "create_timing_cache"):
        return None
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _inspect(trt: ModuleType, logger: Any, plan: Any) -> dict[str, Any] | None:
    """The layers of the finished engine, where it can be opened."""
    engine = trt.Runtime(logger).deserialize_cuda_engine(memoryview(plan))
    if engine is None or not hasattr(engine, "create_engine_inspector"):
        return None
    inspector = engine.create_engine_inspector()
    return read_layers(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def main(request: str, answer: str) -> None:
    """Answer with facts, or with the kind and message of an error."""
    try:
        found: dict[str, Any] = {"facts": asdict(build(read_request(Path(request))))}
    except EdgefoldError as error:
        found = {"error": {"kind": type(error).__name__, "message": str(error)}}
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
