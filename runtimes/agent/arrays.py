"""Arrays as text for a JSON message: numpy's own file format, never its pickles."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np


def encode_arrays(arrays: Mapping[str, Any]) -> dict[str, str]:
    """Name -> the array's .npy file in base 64."""
    return {name: _encode(array) for name, array in arrays.items()}


def decode_arrays(texts: Mapping[str, str]) -> dict[str, Any]:
    """The arrays of `encode_arrays`."""
    return {name: np.load(io.BytesIO(base64.b64decode(text)), allow_pickle=False) for name, text in texts.items()}


def _encode(array: Any) -> str:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()
