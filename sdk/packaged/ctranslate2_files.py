"""The model files of CTranslate2 (version 6): named arrays one after the other, little-endian; numpy alone reads them.

file     u32 version, text specification, u32 revision, u32 count, variables, u32 count, aliases
variable text name, u8 rank, u32 sizes[rank], u8 type, u32 bytes, the array in C order
alias    text name, text of the variable that it stands for
text     u16 bytes, UTF-8 that ends in a zero byte, which is counted
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.errors import InputError

VERSION = 6
TYPES = {0: "<f4", 1: "<i1", 2: "<i2", 3: "<i4", 4: "<f2"}
"""bfloat16 is 5, which numpy lacks."""


@dataclass(frozen=True)
class PackedModel:
    """What a model file holds."""

    specification: str
    """"WhisperSpec", "TransformerSpec", ..."""
    arrays: dict[str, NDArray[Any]]
    """By names such as encoder/layer_0/ffn/linear_0/weight; an alias is the array that it stands for."""


def read_model(path: Path) -> PackedModel:
    """Read a model.bin whole.

    Raises:
        InputError: it is of another version, holds a type that is not known here, or ends too early or too late.
    """
    reader = _Reader(path, path.read_bytes())
    version = reader.number("I")
    if version != VERSION:
        raise InputError(f"{path} has version {version} of the format of CTranslate2; version {VERSION} is read here.")
    specification, _ = reader.text(), reader.number("I")
    arrays = dict(reader.variable() for _ in range(reader.number("I")))
    for _ in range(reader.number("I")):
        alias, name = reader.text(), reader.text()
        if name not in arrays:
            raise InputError(f"{path}: {alias} stands for {name}, which is not in the file; it is corrupt.")
        arrays[alias] = arrays[name]
    reader.check_end()
    return PackedModel(specification, arrays)


class _Reader:
    """A place in a file's content."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._content = content
        self._place = 0

    def number(self, form: str) -> int:
        """B, H or I: one, two or four bytes."""
        (value,) = struct.unpack(f"<{form}", self._take(struct.calcsize(form)))
        return int(value)

    def text(self) -> str:
        return self._take(self.number("H")).removesuffix(b"\0").decode("utf-8", "replace")

    def variable(self) -> tuple[str, NDArray[Any]]:
        name = self.text()
        shape = [self.number("I") for _ in range(self.number("B"))]
        code = self.number("B")
        content = self._take(self.number("I"))
        if code not in TYPES:
            raise InputError(
                f"{self._path}: {name} has type {code}; those that are read are "
                f"{', '.join(f'{known} ({np.dtype(dtype).name})' for known, dtype in TYPES.items())}."
            )
        array = np.frombuffer(content, TYPES[code]) if len(content) % np.dtype(TYPES[code]).itemsize == 0 else None
        if array is None or array.size != int(np.prod(shape)):
            raise InputError(f"{self._path}: {name} has {len(content)} bytes, which are no {shape}; it is corrupt.")
        return name, array.reshape(shape)

    def check_end(self) -> None:
        rest = len(self._content) - self._place
        if rest:
            raise InputError(f"{self._path} goes on for {rest} bytes after its end; it is corrupt.")

    def _take(self, count: int) -> bytes:
        end = self._place + count
        if end > len(self._content):
            raise InputError(f"{self._path} ends at byte {len(self._content)}, before byte {end}; it is corrupt.")
        begin, self._place = self._place, end
        return self._content[begin:end]
