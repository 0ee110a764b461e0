"""save_graph: an ONNX graph as one file, or with its weights beside it, without a second copy of them in memory.

A file of protobuf is a row of fields, each a key, a length and that many bytes; so the weights can be written one after
another behind the graph's nodes, once their lengths are summed (Protocol Buffers, Encoding, Google).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir
from onnx_ir import serde

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.exporters.dynamic_shapes import shape_names

MAX_IR_VERSION = 10
"""What the ONNX Runtime of JetPack 6 still reads."""
OLD_OPSET, OLD_IR_VERSION = 17, 8
"""What the parsers of TensorRT 8.5 and 8.6 were built with."""
STACK_TRACE = "pkg.torch.onnx.stack_trace"
"""A note of torch's exporter with the paths of source files on this machine, which an artifact does not hand out."""
SINGLE_FILE_BYTES = 2**31 - 2**24
"""Above it protobuf needs the weights beside the graph."""
STREAMED_BYTES = 1024
"""Smaller constants are written with the nodes."""
GRAPH, INITIALIZER, RAW_DATA = 7, 5, 9
"""Numbers of the fields ModelProto.graph, GraphProto.initializer and TensorProto.raw_data."""


def save_graph(model: onnx_ir.Model, path: Path, opset: int, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """One file up to `single_file_bytes` of weights, else the weights in `<name>_data` beside it.

    Raises:
        InputError: the exporter wrote another opset than was asked for.
    """
    found = model.opset_imports.get("")
    if found != opset:
        raise InputError(f"The exporter wrote opset {found} where {opset} was asked for; ask for opset={found} or 20.")
    for node in model.graph.all_nodes():
        node.metadata_props.pop(STACK_TRACE, None)
    for value in model.graph.initializers.values():
        if (
            value.shape is not None and len(value.shape) == 2
        ):  # the tensor says it; onnxruntime transposes those of a Gemm
            value.shape = None
    newest = MAX_IR_VERSION if opset > OLD_OPSET else OLD_IR_VERSION
    model.ir_version = min(model.ir_version or newest, newest)
    write_graph(model, path, single_file_bytes)


def write_graph(model: onnx_ir.Model, path: Path, single_file_bytes: int = SINGLE_FILE_BYTES) -> None:
    """As `save_graph`, over what stands there already, if anything does."""
    data = path.with_name(f"{path.name}_data")
    if sum(tensor.nbytes for tensor in _tensors(model).values()) > single_file_bytes:
        onnx_ir.save(model, str(path), external_data=data.name)
        return
    streamed = {name: tensor for name, tensor in _tensors(model).items() if tensor.nbytes >= STREAMED_BYTES}
    with path.open("wb") as file:
        _write(file, model, streamed)
    data.unlink(missing_ok=True)


def read_specs(model: onnx_ir.Model) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs of a graph as an artifact states them."""
    inputs, outputs = (
        [
            TensorSpec(
                name=str(value.name),
                dtype=value.dtype.numpy().name if value.dtype else "float32",
                shape=shape_names([size if isinstance(size, int) else size.value for size in value.shape or ()]),
            )
            for value in values
        ]
        for values in (model.graph.inputs, model.graph.outputs)
    )
    return inputs, outputs


def _tensors(model: onnx_ir.Model) -> dict[str, onnx_ir.TensorProtocol]:
    initializers = model.graph.initializers.items()
    return {name: value.const_value for name, value in initializers if value.const_value is not None}


def _write(file: BinaryIO, model: onnx_ir.Model, streamed: Mapping[str, onnx_ir.TensorProtocol]) -> None:
    """The model's fields, then its graph: the nodes' fields, then each weight's."""
    proto = _without(model, streamed)
    nodes = proto.graph.SerializeToString()
    proto.ClearField("graph")
    heads = {name: _head(name, tensor) for name, tensor in streamed.items()}
    total = len(nodes) + sum(
        _field_length(INITIALIZER, len(head) + _field_length(RAW_DATA, streamed[name].nbytes))
        for name, head in heads.items()
    )
    file.write(proto.SerializeToString() + _key(GRAPH, total) + nodes)
    for name, head in heads.items():
        size = streamed[name].nbytes
        file.write(_key(INITIALIZER, len(head) + _field_length(RAW_DATA, size)) + head + _key(RAW_DATA, size))
        file.write(streamed[name].tobytes())


def _without(model: onnx_ir.Model, streamed: Mapping[str, onnx_ir.TensorProtocol]) -> onnx.ModelProto:
    """The model's protobuf but for those weights; the model is as before afterwards."""
    values = model.graph.initializers
    try:
        for name, tensor in streamed.items():
            values[name].const_value = onnx_ir.ExternalTensor(
                "nowhere", 0, tensor.nbytes, tensor.dtype, shape=onnx_ir.Shape(_dims(tensor)), name=name
            )
        proto = serde.serialize_model(model)
    finally:
        for name, tensor in streamed.items():
            values[name].const_value = tensor
    kept = [tensor for tensor in proto.graph.initializer if tensor.name not in streamed]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto


def _head(name: str, tensor: onnx_ir.TensorProtocol) -> bytes:
    """A weight's fields but for its bytes."""
    head: bytes = onnx.TensorProto(name=name, data_type=int(tensor.dtype), dims=_dims(tensor)).SerializeToString()
    return head


def _dims(tensor: onnx_ir.TensorProtocol) -> list[int]:
    return [size for size in tensor.shape if isinstance(size, int)]


def _key(number: int, length: int) -> bytes:
    """Key and length before a field of bytes (wire type 2)."""
    return bytes([number << 3 | 2, *_varint(length)])


def _field_length(number: int, length: int) -> int:
    return len(_key(number, length)) + length


def _varint(value: int) -> Iterator[int]:
    """Seven bits to a byte, the least first; the eighth bit says that more follow."""
    while value > 127:
        yield value & 127 | 128
        value >>= 7
    yield value
