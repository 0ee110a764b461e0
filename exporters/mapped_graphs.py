"""A graph whose weights stay in its file: what ONNX Runtime maps into memory instead of reading it, and copies nothing.

The file's fields are walked as they lie (Protocol Buffers, Encoding, Google), and in place of each large weight stands
where its bytes begin, which is how ONNX tells of weights in another file; here it is the same one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import onnx

from edgefold.exporters.graph_saving import GRAPH, INITIALIZER, RAW_DATA, STREAMED_BYTES

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""
FIXED = {FIXED64: 8, FIXED32: 4}
MOST_OTHERS = 0.05
"""Of the file's bytes: positions and masks are constants of other types, too."""


def map_floats(path: Path) -> onnx.ModelProto | None:
    """The model with its large weights left where they are; None where other types than float32 take part of the room.

    Kernels for integers want them packed for the processor, which takes a copy.
    """
    with path.open("rb") as file:
        model, graph = onnx.ModelProto(), onnx.GraphProto()
        for number, start, end in _fields(file, 0, path.stat().st_size):
            if number != GRAPH:
                model.MergeFromString(_read(file, start, end))
                continue
            for part, begin, stop in _fields(file, *_content(file, start, end)):
                if part == INITIALIZER and stop - begin >= STREAMED_BYTES:
                    graph.initializer.append(_outside(file, path.name, *_content(file, begin, stop)))
                else:
                    graph.MergeFromString(_read(file, begin, stop))
        model.graph.CopyFrom(graph)
    others = sum(len(tensor.raw_data) for tensor in graph.initializer)
    return model if others <= MOST_OTHERS * path.stat().st_size else None


def _outside(file: BinaryIO, location: str, start: int, end: int) -> onnx.TensorProto:
    """A tensor; if it is float32, its raw data are told by where they lie."""
    tensor, raw = onnx.TensorProto(), None
    for number, begin, stop in _fields(file, start, end):
        if number == RAW_DATA:
            raw = _content(file, begin, stop)
        else:
            tensor.MergeFromString(_read(file, begin, stop))
    if raw and tensor.data_type == onnx.TensorProto.FLOAT:
        for key, value in (("location", location), ("offset", raw[0]), ("length", raw[1] - raw[0])):
            tensor.external_data.add(key=key, value=str(value))
        tensor.data_location = onnx.TensorProto.EXTERNAL
    elif raw:
        tensor.raw_data = _read(file, *raw)
    return tensor


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, first byte and end of each field between two positions, key included."""
    while start < end:
        file.seek(start)
        key = _varint(file)
        wire = key & 7
        if wire == VARINT:
            _varint(file)
            stop = file.tell()
        else:
            size = _varint(file) if wire == BYTES else FIXED[wire]
            stop = file.tell() + size
        yield key >> 3, start, stop
        start = stop


def _content(file: BinaryIO, start: int, end: int) -> tuple[int, int]:
    """Of a field of bytes, without its key and length."""
    file.seek(start)
    _varint(file)
    _varint(file)
    return file.tell(), end


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while True:
        byte = file.read(1)[0]
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7
