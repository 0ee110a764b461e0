"""Labelled tensors from .npz files: an array for each input of a model, and one of labels; numpy alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgefold.data.records import quoted
from edgefold.errors import InputError

Array = NDArray[Any]
KINDS = {"f": np.float32, "i": np.int64, "u": np.int64, "b": np.bool_}
"""Kind of numbers -> the type that a model gets them in."""


@dataclass(frozen=True)
class Arrays:
    """Rows of arrays by the names of the inputs, and their labels, if there are any."""

    inputs: dict[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


def read_arrays(path: str | Path, *, names: Sequence[str] | None = None, label: str | None = None) -> Arrays:
    """Read the arrays of an .npz file, each with its rows along the first axis.

    Args:
        names: of the inputs, others being left out; None takes all but the label.
        label: the array of labels; None leaves them out.

    Raises:
        InputError: the file or an array is missing, is empty, holds no finite numbers, or has another number of rows.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"The data file {file} {'is a folder' if file.is_dir() else 'does not exist'}; give an .npz.")
    try:
        with np.load(file, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise ValueError("it is a single array")
            present = list(archive.files)
            inputs = list(names) if names is not None else [name for name in present if name != label]
            wanted = [*inputs, *([label] if label else [])]
            if missing := [name for name in wanted if name not in present]:
                raise InputError(f"{file} has no array {missing[0]!r}; those present are {quoted(present)}.")
            arrays = {name: _checked(archive[name], name, file) for name in wanted}
    except InputError:
        raise
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{file} cannot be read as an .npz file without objects: {error}.") from None
    if not inputs:
        raise InputError(f"{file} has no array but the labels; give one for each input of the model, by its name.")
    rows = {name: len(array) for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        raise InputError(f"{file}: the arrays differ in their numbers of rows: {rows}.")
    return Arrays({name: arrays[name] for name in inputs}, arrays[label] if label else None)


def _checked(array: Array, name: str, file: Path) -> Array:
    if array.dtype.kind not in KINDS:
        raise InputError(f"{file}: {name} is {array.dtype}; an array holds numbers.")
    if not array.ndim or not len(array):
        raise InputError(f"{file}: {name} has the shape {array.shape}; it needs rows along its first axis.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(1))[0, 0])
        raise InputError(f"{file}: {name} is not finite in row {row}.")
    return array.astype(KINDS[array.dtype.kind], copy=False)
