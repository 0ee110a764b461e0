"""Model files of CTranslate2: what the format's description writes is read, and no other content is."""

import struct
from pathlib import Path

import numpy as np
import pytest
from packed_whisper import write_model

from edgefold.errors import InputError
from edgefold.packaged.ctranslate2_files import read_model

GENERATOR = np.random.default_rng(0)
ARRAYS = {
    "encoder/weight": GENERATOR.normal(size=(3, 4)).astype("float32"),
    "encoder/half": GENERATOR.normal(size=(2, 3, 5)).astype("float16"),
    "encoder/num_heads": np.array(-6, "int16"),
    "encoder/bytes": np.array([[-128, 127]], "int8"),
    "decoder/ids": np.array([2**31 - 1, -5], "int32"),
}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_model(tmp_path / "model.bin", ARRAYS, [("decoder/tied", "encoder/weight")], specification="TinySpec")
    packed = read_model(tmp_path / "model.bin")
    assert packed.specification == "TinySpec"
    assert list(packed.arrays) == [*ARRAYS, "decoder/tied"]
    assert packed.arrays["decoder/tied"] is packed.arrays["encoder/weight"]
    for name, array in ARRAYS.items():
        assert packed.arrays[name].dtype == array.dtype
        assert packed.arrays[name].shape == array.shape
        assert np.array_equal(packed.arrays[name], array)


def test_every_shortened_file_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path / "whole.bin", ARRAYS, [("decoder/tied", "encoder/weight")])
    content = (tmp_path / "whole.bin").read_bytes()
    for end in range(0, len(content), 7):
        (tmp_path / "model.bin").write_bytes(content[:end])
        with pytest.raises(InputError, match=rf"model\.bin ends at byte {end}, before byte \d+; it is corrupt"):
            read_model(tmp_path / "model.bin")


def test_refusals(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    write_model(path, ARRAYS, version=5)
    with pytest.raises(InputError, match="has version 5 of the format of CTranslate2; version 6 is read here"):
        read_model(path)
    write_model(path, ARRAYS, [("decoder/tied", "decoder/none")])
    with pytest.raises(InputError, match="decoder/tied stands for decoder/none, which is not in the file"):
        read_model(path)
    write_model(path, ARRAYS)
    content = path.read_bytes()
    path.write_bytes(content + b"\0\0\0")
    with pytest.raises(InputError, match="goes on for 3 bytes after its end"):
        read_model(path)
    shape, other = struct.pack("<BII", 2, 3, 4), struct.pack("<BII", 2, 3, 5)
    path.write_bytes(content.replace(shape, other))
    with pytest.raises(InputError, match=r"encoder/weight has 48 bytes, which are no \[3, 5\]"):
        read_model(path)
    path.write_bytes(content.replace(shape + b"\0", shape + b"\x05"))
    with pytest.raises(InputError, match=r"encoder/weight has type 5; those that are read are 0 \(float32\), 1"):
        read_model(path)
