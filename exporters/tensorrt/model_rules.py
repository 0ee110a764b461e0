"""Rules about the model as a whole: opset, IR, element types, sparse tensors and external data."""

from collections.abc import Iterator
from pathlib import Path

from onnx import TensorProto
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgefold.exporters.tensorrt.complaints import Complaint
from edgefold.exporters.tensorrt.graph_view import GraphView, name_of, type_name
from edgefold.exporters.tensorrt.parser_targets import OLDEST_OPSET, ParserTarget, Version

TYPES: dict[Version, tuple[int, ...]] = {
    (8, 5): (
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.DOUBLE,
        TensorProto.INT8,
        TensorProto.UINT8,
        TensorProto.INT32,
        TensorProto.INT64,
        TensorProto.BOOL,
    ),
    (8, 6): (TensorProto.FLOAT8E4M3FN,),
    (10, 0): (TensorProto.BFLOAT16, TensorProto.INT4),
    (10, 8): (TensorProto.FLOAT4E2M1,),
}
"""Element types by the version that takes them first (operators.md; changelog; bindings of each release)."""
NATIVE_INT64: Version = (10, 0)
"""Before it int64 inputs are bound as int32 and 64-bit constants clamped (changelog of 9.0)."""


def check_opset(graph: GraphView, target: ParserTarget) -> Iterator[Complaint]:
    if graph.opset > target.opset:
        yield _about_model(
            f"is of opset {graph.opset}; {target.name} documents opset {target.opset}: export with that, or run only "
            "what no rule refuses, at your own risk"
        )
    elif graph.opset < OLDEST_OPSET and target.version >= (10, 0):
        yield _about_model(f"is of opset {graph.opset}; {target.name} documents opset {OLDEST_OPSET} and later")


def check_ir_version(graph: GraphView, target: ParserTarget) -> Iterator[Complaint]:
    """A newer IR is read with a warning that has no effect (onnx-tensorrt issue 479); other runtimes refuse it."""
    if graph.model.ir_version > target.ir_version:
        yield _about_model(
            f"is of IR version {graph.model.ir_version}, newer than the {target.ir_version} that the parser was built "
            "with; it warns and goes on"
        )


def check_types(graph: GraphView, target: ParserTarget) -> Iterator[Complaint]:
    """Element types of inputs, outputs, weights and casts."""
    allowed = {number for since, numbers in TYPES.items() if since <= target.version for number in numbers}
    for name, kind, number in _typed(graph):
        if number not in allowed:
            yield Complaint(name, kind, "refused", f"is of {type_name(number)}, which {target.name} does not have")
        elif number == TensorProto.DOUBLE:
            yield Complaint(name, kind, "warned", "is of double, which is computed in float32; export in float32")
    if target.version < NATIVE_INT64:
        names = [v.name for v in graph.model.graph.input if v.type.tensor_type.elem_type == TensorProto.INT64]
        if names:
            yield _about_model(f"takes int64 ({', '.join(names)}), bound as int32 there; a session casts its inputs")


def check_turing(graph: GraphView, target: ParserTarget) -> Iterator[Complaint]:
    """TensorRT-RTX 1.7 compiles no matrix product of float32 for Turing, and says so only in the build."""
    products = [node for node in graph.nodes() if node.op_type in ("MatMul", "Gemm")]
    dequantized = {node.output[0] for node in graph.nodes() if node.op_type == "DequantizeLinear"}
    plain = [
        name_of(node)
        for node in products
        if graph.types.get(node.input[0]) == TensorProto.FLOAT and dequantized.isdisjoint(node.input)
    ]
    if target.is_rtx and plain:
        yield _about_model(
            f"multiplies matrices in float32 ({len(plain)} times, first in {plain[0]}), which does not compile for "
            "Turing (7.5); other devices take it, and Turing takes fp16"
        )


def check_sparse(graph: GraphView, target: ParserTarget) -> Iterator[Complaint]:
    for tensor in graph.model.graph.sparse_initializer:
        what = "is a sparse_initializer, which the parser does not read; store it dense"
        yield Complaint(tensor.values.name, "initializer", "refused", what)


def check_external_data(graph: GraphView, target: ParserTarget) -> Iterator[Complaint]:
    """Files beside the model: inside its folder, there, and long enough."""
    for tensor in graph.model.graph.initializer:
        if uses_external_data(tensor) and (wrong := _wrong_with(ExternalDataInfo(tensor), graph.folder)):
            yield Complaint(tensor.name, "initializer", "refused", wrong)


def _wrong_with(info: ExternalDataInfo, folder: Path) -> str | None:
    path = folder / info.location
    if not path.resolve().is_relative_to(folder.resolve()):
        return f"keeps its data in {info.location}, outside the model's folder; copy it there"
    if not path.is_file():
        return f"keeps its data in {info.location}, which is missing"
    end = (info.offset or 0) + (info.length or 0)
    if path.stat().st_size < end:
        return f"needs {end} bytes of {info.location}, which has {path.stat().st_size}"
    return None


def _typed(graph: GraphView) -> Iterator[tuple[str, str, int]]:
    ends = ((graph.model.graph.input, "input"), (graph.model.graph.output, "output"))
    for values, kind in ends:
        yield from ((v.name, kind, v.type.tensor_type.elem_type) for v in values if v.type.HasField("tensor_type"))
    yield from ((tensor.name, "initializer", tensor.data_type) for tensor in graph.model.graph.initializer)
    for node in graph.nodes():
        yield from ((name_of(node), node.op_type, a.i) for a in node.attribute if node.op_type == "Cast" and a.i)


def _about_model(what: str) -> Complaint:
    return Complaint("", "model", "warned", what)


RULES = (check_opset, check_ir_version, check_types, check_turing, check_sparse, check_external_data)
"""Each is asked once."""
