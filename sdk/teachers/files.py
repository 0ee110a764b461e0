"""What the teacher said of each training example, on disk: memory-mapped, whole or not there, refused when stale."""

import errno
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from edgefold.errors import InputError
from edgefold.staging import staged_folder
from edgefold.teachers.rows import Row, TeacherOutputs, compact, put_together, take_apart

SCHEMA_VERSION = 1
INDEX = "index.json"
TOKENS = -1
"""In a row's shape, the axes that count its tokens."""


@dataclass(frozen=True)
class StoredValue:
    """One value of all examples: rows one after the other in one file."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    """Of a row, TOKENS where an axis counts tokens."""

    def row_shape(self, tokens: int) -> tuple[int, ...]:
        return tuple(tokens if size == TOKENS else size for size in self.shape)

    def elements(self, tokens: Any) -> Any:
        """How many numbers a row of so many tokens has (of many rows: an array of them)."""
        sizes = [tokens if size == TOKENS else size for size in self.shape]
        return np.prod(np.broadcast_arrays(*sizes, np.ones_like(tokens)), axis=0, dtype=np.int64)


class TeacherFiles:
    """A folder of teacher outputs, opened to be read; hidden states are in half precision, as in `TeacherCache`.

    Args:
        key: what the outputs follow from (the teacher's weights, the data, the places), each with its fingerprint.

    Raises:
        InputError: the folder holds something else, outputs of another key, or files of the wrong size.
    """

    def __init__(self, folder: str | Path, key: Mapping[str, str]) -> None:
        self._folder = Path(folder)
        index = _read_index(self._folder)
        stale = [name for name in key if index["key"].get(name) != key[name]]
        if stale:
            raise InputError(
                f"The teacher cache in {folder} is stale: {' and '.join(stale)} changed since it was made. Remove the "
                "folder, or give another; data that change from epoch to epoch cannot be cached."
            )
        self._lengths = np.load(self._folder / "lengths.npy", allow_pickle=False)
        self._values = {
            name: StoredValue(stored["file"], stored["dtype"], tuple(stored["shape"]))
            for name, stored in index["values"].items()
        }
        self._starts = {name: _starts(value.elements(self._lengths)) for name, value in self._values.items()}
        self._maps = {name: self._map(name, value) for name, value in self._values.items()}

    def __len__(self) -> int:
        return len(self._lengths)

    def fetch(self, batch: Mapping[str, Any], ids: Tensor, compute: Callable[[], TeacherOutputs]) -> TeacherOutputs:
        """The teacher's outputs for a batch of these examples; nothing is computed."""
        return put_together([self._rows(int(key)) for key in ids], batch)

    def _rows(self, key: int) -> dict[str, Row]:
        tokens = int(self._lengths[key])
        rows = {}
        for name, value in self._values.items():
            numbers = self._maps[name][self._starts[name][key] : self._starts[name][key + 1]]
            axes = tuple(axis for axis, size in enumerate(value.shape) if size == TOKENS)
            rows[name] = Row(torch.from_numpy(np.array(numbers)).reshape(value.row_shape(tokens)), axes)
        return rows

    def _map(self, name: str, value: StoredValue) -> Any:
        path, dtype = self._folder / value.file, np.dtype(value.dtype)
        expected = int(self._starts[name][-1]) * dtype.itemsize
        if not path.is_file() or path.stat().st_size != expected:
            raise InputError(
                f"The teacher cache in {self._folder} is damaged: {value.file} should have {expected} bytes. Remove "
                "the folder; it will be made again."
            )
        return np.memmap(path, dtype, "r") if expected else np.zeros(0, dtype)


@dataclass
class _Recording:
    """The files of a cache while it is written."""

    folder: Path
    values: dict[str, StoredValue] = field(default_factory=dict)
    files: dict[str, BinaryIO] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=list)

    def add(self, rows: Mapping[str, Row], open_file: Callable[[Path], BinaryIO]) -> None:
        tokens = {row.value.shape[axis] for row in rows.values() for axis in row.token_axes}
        self.lengths.append(tokens.pop() if tokens else 0)
        for name, row in rows.items():
            shape = tuple(TOKENS if axis in row.token_axes else size for axis, size in enumerate(row.value.shape))
            numbers = row.value.float() if row.value.dtype == torch.bfloat16 else row.value  # numpy has no bfloat16
            array = numbers.contiguous().numpy()
            stored = StoredValue(f"{len(self.values)}.bin", array.dtype.name, shape)
            if name not in self.values:
                self.values[name] = stored
                self.files[name] = open_file(self.folder / stored.file)
            if (self.values[name].shape, self.values[name].dtype) != (stored.shape, stored.dtype):
                raise InputError(
                    f"The teacher's {name} has rows of shapes {self.values[name].shape} and {shape}; only the number "
                    "of tokens may differ between examples. Train without a teacher cache on disk."
                )
            self.files[name].write(array.tobytes())


def record_teacher(
    folder: str | Path,
    key: Mapping[str, str],
    batches: Iterable[Mapping[str, Any]],
    say: Callable[[Mapping[str, Any]], TeacherOutputs],
    examples: int,
) -> None:
    """Run the teacher over all examples, in order, and write what it says; the folder appears when it is whole.

    Args:
        examples: how many there will be.

    Raises:
        InputError: the folder exists, or the disk has no room.
    """
    folder = Path(folder)
    with _room_errors(folder), staged_folder(folder) as staging, ExitStack() as stack:
        recording = _Recording(staging)
        for number, batch in enumerate(batches):
            for rows in take_apart(compact(say(batch)), batch):
                recording.add(rows, lambda path: stack.enter_context(path.open("wb")))
            if number == 0:
                _check_room(folder, recording, examples)
        np.save(staging / "lengths.npy", np.array(recording.lengths, dtype=np.int64))
        values = {name: vars(value) for name, value in recording.values.items()}
        index = {"schema_version": SCHEMA_VERSION, "key": dict(key), "values": values}
        (staging / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _read_index(folder: Path) -> Any:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(
            f"{folder} is no teacher cache: it has no readable {INDEX}. Give an empty or new folder."
        ) from None
    if index.get("schema_version") != SCHEMA_VERSION:
        raise InputError(
            f"The teacher cache in {folder} has schema version {index.get('schema_version')}, this edgefold reads "
            f"{SCHEMA_VERSION}; remove the folder, and it will be made again."
        )
    return index


def _starts(elements: Any) -> Any:
    """Where each row begins, and at last where all end: (examples + 1,)."""
    return np.concatenate([[0], np.cumsum(elements)]).astype(np.int64)


def _check_room(folder: Path, recording: _Recording, examples: int) -> None:
    """After the first batch: whether all examples, if they are like it, will fit on the disk."""
    written = sum(file.tell() for file in recording.files.values())
    needed = written * (examples / len(recording.lengths) - 1)
    free = shutil.disk_usage(recording.folder).free
    if needed > free:
        raise InputError(
            f"The teacher's outputs need about {needed / 2**30:.1f} GiB more at {folder}, where {free / 2**30:.1f} GiB "
            "are free. Make room, give another folder, or cache in memory."
        )


@contextmanager
def _room_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(
            f"The disk is full: the teacher's outputs could not be written to {folder}, and nothing was left there. "
            "Make room, give another folder, or cache in memory."
        ) from error
