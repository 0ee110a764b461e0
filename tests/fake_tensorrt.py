"""A double of TensorRT in Python, for tests without a GPU: it parses ONNX, and its engines compute by ONNX Runtime.

`make_tensorrt("8.6")` is a module with what that release has and without what it has not, by the bindings of each.
Imported by name, as in EDGEFOLD_TENSORRT=fake_tensorrt, it is release $FAKE_TENSORRT, and a build ends as $FAKE_END
says: in a crash, a kill, a hang, without an engine, or well.
"""

import ctypes
import enum
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
from fake_cuda import FakeCuda
from numpy.typing import NDArray

NUMPY = {"FLOAT": "float32", "HALF": "float16", "INT8": "int8", "INT32": "int32", "INT64": "int64", "BOOL": "bool"}
REFUSED = ("Det", "LayerNormalization@8.5")


class DataType(enum.Enum):
    FLOAT, HALF, INT8, INT32, BOOL, INT64 = range(6)


class Severity(enum.IntEnum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = Severity
    Severity = Severity

    def __init__(self, least: Severity = Severity.WARNING) -> None:
        self.least = least

    def log(self, severity: Severity, message: str) -> None:
        if severity <= self.least:
            print(f"[TRT] [{severity.name[0]}] {message}", file=sys.stderr, flush=True)


class Layer:
    def __init__(self, outputs: Sequence[DataType]) -> None:
        self._outputs = [SimpleNamespace(dtype=kind) for kind in outputs]
        self.num_outputs = len(outputs)

    def get_output(self, index: int) -> Any:
        return self._outputs[index]


class Network:
    def __init__(self, flags: int) -> None:
        self.flags = flags
        self.model = b""
        self.layers: list[Layer] = []
        self.inputs: dict[str, list[int]] = {}

    num_layers = property(lambda self: len(self.layers))
    num_inputs = property(lambda self: len(self.inputs))

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]

    def get_input(self, index: int) -> Any:
        name = list(self.inputs)[index]
        return SimpleNamespace(name=name, shape=tuple(self.inputs[name]))


class ParserError:
    def __init__(self, index: int, node: onnx.NodeProto, names_nodes: bool) -> None:
        self._index, self._node = index, node
        if names_nodes:
            self.node_name, self.node_operator = (lambda: node.name), (lambda: node.op_type)

    def node(self) -> int:
        return self._index

    def desc(self) -> str:
        return f"no importer\nfor {self._node.op_type}"


class Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = [list(least), list(usual), list(largest)]

    def __bool__(self) -> bool:
        return all(a <= b <= c for shapes in self.shapes.values() for a, b, c in zip(*shapes, strict=True))


class Config:
    def __init__(self, release: "Release") -> None:
        self._release = release
        self.set_flags: set[str] = set()
        self.profiles: list[Profile] = []
        self.limits: dict[Any, int] = {}
        self.profiling_verbosity = "LAYER_NAMES_ONLY"
        self.timings: Any = None
        self.capabilities: dict[int, Any] = {}
        if release.at_least(8, 6):
            self.builder_optimization_level = 3
        if release.is_rtx:
            self.num_compute_capabilities = 0
            self.set_compute_capability = lambda value, index: self.capabilities.update({index: value.name})

    def set_flag(self, flag: Any) -> None:
        self.set_flags.add(flag.name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.limits[pool] = size

    def add_optimization_profile(self, profile: Profile) -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, kept: bytes) -> Any:
        return SimpleNamespace(kept=kept, serialize=lambda: memoryview(kept or b"timed " + self._release.name.encode()))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        if cache.kept and not cache.kept.endswith(self._release.name.encode()):
            return False
        self.timings = cache
        return True

    def get_timing_cache(self) -> Any:
        return self.timings


class Release:
    """Which TensorRT this is."""

    def __init__(self, name: str, cuda: FakeCuda | None) -> None:
        self.is_rtx = name.startswith("rtx")
        self.name = name.removeprefix("rtx")
        self.version = (10, 15) if self.is_rtx else tuple(int(part) for part in self.name.split("."))
        self.cuda = cuda

    def at_least(self, *version: int) -> bool:
        return self.version >= version


def make_tensorrt(name: str, cuda: FakeCuda | None = None, end: str = "") -> ModuleType:
    """A release: "8.5", "8.6", "10.3", "11.4" or "rtx1.7"."""
    release = Release(name, cuda)
    module: Any = ModuleType("fake_tensorrt_rtx" if release.is_rtx else "fake_tensorrt")
    module.__version__ = f"{release.name}.0"
    module.Logger, module.ILogger, module.DataType = Logger, Logger, DataType
    module.LayerInformationFormat = enum.Enum("LayerInformationFormat", ["ONELINE", "JSON"])
    module.ProfilingVerbosity = SimpleNamespace(DETAILED="DETAILED")
    module.MemoryPoolType = SimpleNamespace(WORKSPACE="WORKSPACE")
    module.TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    creation = (["EXPLICIT_BATCH"] if not release.at_least(11, 0) and not release.is_rtx else []) + (
        ["STRONGLY_TYPED"] if release.at_least(10, 0) else []
    )
    module.NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", creation, start=0)
    weak = ["FP16", "INT8"] if not release.at_least(11, 0) and not release.is_rtx else []
    module.BuilderFlag = enum.Enum("BuilderFlag", ["SPARSE_WEIGHTS", *weak])
    if release.is_rtx:
        module.ComputeCapability = enum.Enum("ComputeCapability", ["NONE", "CURRENT", "SM75", "SM86", "SM120"])

    class OnnxParser:
        def __init__(self, network: Network, logger: Logger) -> None:
            self.network, self.logger = network, logger
            self.errors: list[ParserError] = []

        num_errors = property(lambda self: len(self.errors))

        def get_error(self, index: int) -> ParserError:
            return self.errors[index]

        def parse_from_file(self, path: str) -> bool:
            model = onnx.load(path)
            for index, node in enumerate(model.graph.node):
                if node.op_type in REFUSED or f"{node.op_type}@{release.name}" in REFUSED:
                    self.errors.append(ParserError(index, node, release.at_least(10, 0)))
            self.network.model = model.SerializeToString()
            self.network.layers = [Layer(kinds) for kinds in _kinds(model)]
            for entry in model.graph.input:
                sizes = entry.type.tensor_type.shape.dim
                self.network.inputs[entry.name] = [-1 if d.dim_param else d.dim_value for d in sizes]
            return not self.errors

    class Builder:
        def __init__(self, logger: Logger) -> None:
            if cuda is None and not release.is_rtx and not end:
                raise TypeError("pybind11::init(): factory function returned nullptr")
            self.logger = logger

        def create_network(self, flags: int) -> Network:
            known = sum(1 << flag for flag in module.NetworkDefinitionCreationFlag)
            if flags & ~known or (release.version[0] < 10 and not flags & 1):
                raise RuntimeError(f"flags {flags:b} where {known:b} are known")
            return Network(flags)

        def create_builder_config(self) -> Config:
            self.config = Config(release)
            module.last_config = self.config
            return self.config

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> Any:
            _end(end)
            if end == "nothing":
                self.logger.log(Severity.ERROR, "no engine, as told")
                return None
            kinds = {o.dtype.name for layer in network.layers for o in layer._outputs}
            for kind, flag in (("HALF", "FP16"), ("INT8", "INT8")):
                if kind in kinds and flag in weak and not release.at_least(10, 0) and flag not in config.set_flags:
                    self.logger.log(Severity.ERROR, f"The network has {kind} tensors and the flag {flag} is not set")
                    return None
            if not config.profiles and any(-1 in shape for shape in network.inputs.values()):
                self.logger.log(Severity.ERROR, "Network has dynamic inputs, but no optimization profile")
                return None
            if "SPARSE_WEIGHTS" in config.set_flags:
                self.logger.log(Severity.INFO, "(Sparsity) Found 3 layer(s) eligible to use sparse tactics: a, b, c")
                self.logger.log(Severity.INFO, "(Sparsity) Chose 2 layer(s) using sparse tactics: a, b")
            header = {
                "version": release.name,
                "profiles": [profile.shapes for profile in config.profiles],
                "kinds": sorted(kinds),
            }
            head = json.dumps(header).encode()
            return memoryview(b"PLAN" + len(head).to_bytes(4, "little") + head + network.model)

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            self.logger = logger

        def deserialize_cuda_engine(self, plan: Any) -> Any:
            data = bytes(plan)
            if cuda is None or data[:4] != b"PLAN":
                self.logger.log(Severity.ERROR, "no device, or a plan that is damaged")
                return None
            size = int.from_bytes(data[4:8], "little")
            header = json.loads(data[8 : 8 + size])
            if header["version"] != release.name:
                self.logger.log(Severity.ERROR, f"The engine plan file is of {header['version']}, not {release.name}")
                return None
            return Engine(release, module, header, onnx.load_from_string(data[8 + size :]))

    module.OnnxParser, module.Builder, module.Runtime = OnnxParser, Builder, Runtime
    return module


class Engine:
    def __init__(self, release: Release, module: Any, header: dict[str, Any], model: onnx.ModelProto) -> None:
        self.release, self.module, self.header, self.model = release, module, header, model
        self.num_optimization_profiles = len(header["profiles"])
        graph = model.graph
        self.ends = {value.name: value for value in (*graph.input, *graph.output)}
        self._inputs = {value.name for value in graph.input}
        self.num_io_tensors = len(self.ends)

    def get_tensor_name(self, index: int) -> str:
        return list(self.ends)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.module.TensorIOMode["INPUT" if name in self._inputs else "OUTPUT"]

    def get_tensor_dtype(self, name: str) -> DataType:
        kind = _kind(self.ends[name].type.tensor_type.elem_type)
        return DataType.INT32 if kind is DataType.INT64 and not self.release.at_least(10, 0) else kind

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sizes = self.ends[name].type.tensor_type.shape.dim
        return tuple(-1 if d.dim_param else d.dim_value for d in sizes)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Any]:
        return [tuple(shape) for shape in self.header["profiles"][profile][name]]

    def create_execution_context(self) -> "Context":
        return Context(self)

    def create_engine_inspector(self) -> Any:
        def kind(node: onnx.NodeProto) -> str:
            return "Int8" if node.op_type == "MatMul" and "INT8" in self.header["kinds"] else "FP32"

        layers = [{"Name": n.name, "Outputs": [{"Format/Datatype": kind(n)}]} for n in self.model.graph.node]
        return SimpleNamespace(get_engine_information=lambda form: json.dumps({"Layers": layers, "Bindings": []}))


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        import onnxruntime  # takes seconds, which a build need not spend

        self._session = onnxruntime.InferenceSession(engine.model.SerializeToString())

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self.profile = index
        return index < self.engine.num_optimization_profiles

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        least, _, largest = self.engine.get_tensor_profile_shape(name, self.profile)
        fits = all(a <= size <= b for a, size, b in zip(least, shape, largest, strict=True))
        self.shapes |= {name: tuple(shape)} if fits else {}
        return fits

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.ends

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self.shapes:
            return self.shapes[name]
        sizes = {}
        for known, shape in self.shapes.items():
            labels = [d.dim_param for d in self.engine.ends[known].type.tensor_type.shape.dim]
            sizes |= {label: size for label, size in zip(labels, shape, strict=True) if label}
        dims = self.engine.ends[name].type.tensor_type.shape.dim
        parts = [
            [sizes.get(part, -1) for part in d.dim_param.split(" + ")] if d.dim_param else [d.dim_value] for d in dims
        ]
        return tuple(-1 if -1 in part else sum(part) for part in parts)

    def execute_async_v3(self, stream: int) -> bool:
        cuda = self.engine.release.cuda
        assert cuda is not None
        if set(self.addresses) != set(self.engine.ends) or stream not in cuda.streams:
            return False
        shapes = {name: self.get_tensor_shape(name) for name in self.engine.ends}
        addresses = dict(self.addresses)
        for name, shape in shapes.items():
            if not cuda.holds(addresses[name], int(np.prod(shape)) * self._dtype(name).itemsize):
                return False
        cuda.enqueue(stream, lambda: self._compute(shapes, addresses))
        return True

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(NUMPY[self.engine.get_tensor_dtype(name).name])

    def _array(self, name: str, shape: tuple[int, ...], address: int) -> NDArray[Any]:
        size = int(np.prod(shape)) * self._dtype(name).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), self._dtype(name)).reshape(shape)

    def _compute(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        inputs = {value.name: value.type for value in self._session.get_inputs()}
        wanted = {"tensor(int64)": np.int64}
        feeds = {
            name: self._array(name, shapes[name], addresses[name]).astype(wanted.get(kind, self._dtype(name)))
            for name, kind in inputs.items()
        }
        names = [value.name for value in self._session.get_outputs()]
        for name, value in zip(names, self._session.run(names, feeds), strict=True):
            self._array(name, shapes[name], addresses[name])[...] = value


def _kinds(model: onnx.ModelProto) -> list[list[DataType]]:
    """The types of what each node and each constant gives, as far as the graph tells."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    types = {v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)}
    layers = [[_kind(tensor.data_type)] for tensor in model.graph.initializer]
    return layers + [[_kind(types[name]) for name in node.output if name in types] for node in model.graph.node]


def _kind(number: int) -> DataType:
    name = onnx.TensorProto.DataType.Name(number)
    return DataType[{"FLOAT16": "HALF", "UINT8": "INT8"}.get(name, name)]


def _end(how: str) -> None:
    if how in ("SIGSEGV", "SIGKILL"):
        print("about to end", file=sys.stderr, flush=True)
        os.kill(os.getpid(), getattr(signal, how))
    if how == "hang":
        time.sleep(600)


if "FAKE_TENSORRT" in os.environ:
    sys.modules[__name__].__dict__.update(
        {
            name: value
            for name, value in vars(make_tensorrt(os.environ["FAKE_TENSORRT"], None, os.environ["FAKE_END"])).items()
            if name not in ("__name__", "__spec__", "__loader__", "__package__", "__doc__")
        }
    )
