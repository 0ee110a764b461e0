"""Parity: the exported graph, run in ONNX Runtime, computes what torch computes."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgefold.copies import copied
from edgefold.errors import GateError, InputError
from edgefold.exporters.mapped_graphs import map_floats

Batch = Mapping[str, Tensor]
SMALLEST_UNIT = 1e-3
"""A smaller output is compared as if it were this large: rounding is not in proportion to what cancels out."""
OWN_ROUNDING = 4
"""Two computations in float32 may be twice as far apart as either is from the truth, and examples are few."""
MOST_ROUNDING = 1e-2
"""Where float64 takes another branch than float32, their distance says nothing of rounding."""
MAPPED_BYTES = 2**26
"""From this size on a file is mapped: as it reads one, ONNX Runtime holds every weight twice."""
FOLDER_OF_WEIGHTS = "session.model_external_initializers_file_folder_path"


def check_parity(model: nn.Module, path: Path, batches: Iterable[Batch], tolerance: float) -> float:
    """The largest difference between torch and ONNX Runtime, in units of the largest output.

    A model may itself make more of rounding than a `tolerance` above 0: then a graph passes that is no further from
    torch than `OWN_ROUNDING` times as far as torch is from itself in float64, and than `MOST_ROUNDING`.

    Raises:
        GateError: it is more, or not a number.
    """
    tried = list(batches)
    error = largest_error(model, path, tried, in_units=True)
    is_near = tolerance > 0 and error <= MOST_ROUNDING
    if not error <= tolerance and not (is_near and error <= OWN_ROUNDING * rounding_error(model, tried)):
        raise GateError(
            f"The exported graph differs from torch by up to {error:.2e} of the largest output, more than "
            f"{tolerance:.0e}; nothing was written. Check forward for values computed from example shapes."
        )
    return error


def check_half(model: nn.Module, path: Path, batches: Iterable[Batch], tolerance: float) -> float:
    """The largest difference of an fp16 graph from torch, in units of the largest output.

    Raises:
        GateError: it is above `tolerance`, or not a number.
    """
    error = largest_error(model, path, batches, in_units=True)
    if not error <= tolerance:
        raise GateError(
            f"In fp16 the outputs differ from torch by up to {error:.2e} of the largest, more than {tolerance:.0e}; "
            "nothing was written. Export it in fp32, or allow more with half_tolerance."
        )
    return error


def largest_error(model: nn.Module, path: Path, batches: Iterable[Batch], in_units: bool = False) -> float:
    """The largest absolute difference between ONNX Runtime and torch over all outputs and batches.

    Args:
        in_units: of the largest value of that output, where that is above `SMALLEST_UNIT`.

    Raises:
        InputError: what torch computes is not finite, so that nothing could be compared.
        GateError: the graph does not run, or has other outputs.
    """
    session = open_graph(path)
    worst = 0.0
    for batch in batches:
        expected = _run_torch(model, batch)
        if not all(np.isfinite(value).all() for value in expected):
            raise InputError(
                "The model itself gives NaN or infinity in torch on the example inputs; nothing was written. Check its "
                "weights, which a training may have ruined, and the inputs."
            )
        found = _run(session, batch)
        if len(found) != len(expected):
            raise GateError(f"The exported graph has {len(found)} outputs where torch has {len(expected)}.")
        worst = max([worst, *(_difference(a, b, in_units) for a, b in zip(found, expected, strict=True))])
    return worst


def rounding_error(model: nn.Module, batches: Iterable[Batch]) -> float:
    """The largest difference between torch in float32 and in float64, in units of the largest output; 0 where the model
    does not run in float64."""
    exact = copied(model).double()
    worst = 0.0
    for batch in batches:
        doubled = {name: value.double() if value.is_floating_point() else value for name, value in batch.items()}
        try:
            with torch.no_grad():
                pairs = list(zip(_tensors(model(**batch)), _tensors(exact(**doubled)), strict=True))
        except (RuntimeError, ValueError):
            return 0.0
        worst = max([worst, *(_difference(a.numpy(), b.numpy(), in_units=True) for a, b in pairs)])
    return worst


def open_graph(path: Path) -> Any:
    """A session that computes what the graph says, on the CPU; one file of many weights is mapped, not copied.

    Raises:
        GateError: ONNX Runtime does not open it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What the graph says, not this processor's rounding: 8-bit weights meant for ARM saturate on x86 without VNNI.
    options.add_session_config_entry("session.x64quantprecision", "1")
    mapped = map_floats(path) if path.stat().st_size >= MAPPED_BYTES else None
    if mapped is not None:
        options.add_session_config_entry("session.disable_prepacking", "1")
        options.add_session_config_entry(FOLDER_OF_WEIGHTS, str(path.parent))
    # A tied table that the head reads transposed would be folded into a second one, of which three are held meanwhile.
    unfolded = [] if mapped is None else ["ConstantFolding"]
    source = str(path) if mapped is None else mapped.SerializeToString()
    try:
        return onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"], disabled_optimizers=unfolded
        )
    except Exception as error:  # onnxruntime's own classes share no base
        raise GateError(f"ONNX Runtime does not open the exported model: {str(error).splitlines()[0]}") from error


def _run_torch(model: nn.Module, batch: Batch) -> list[NDArray[Any]]:
    try:
        with torch.no_grad():
            return [value.numpy() for value in _tensors(model(**{k: v.clone() for k, v in batch.items()}))]
    except (RuntimeError, IndexError, ValueError, AssertionError) as error:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in batch.items())
        told = str(error).strip() or type(error).__name__
        raise GateError(
            f"The model itself does not run in torch at other sizes than the example's ({shapes}): "
            f"{told.splitlines()[0]} Say with dynamic_axes which sizes may change."
        ) from error


def _run(session: Any, batch: Batch) -> list[NDArray[Any]]:
    arrays = {value.name: batch[value.name].numpy() for value in session.get_inputs()}
    try:
        return list(session.run(None, arrays))
    except Exception as error:  # onnxruntime's own classes share no base
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise GateError(
            f"ONNX Runtime does not run the exported graph at other sizes than the example's ({shapes}): "
            f"{str(error).splitlines()[0]}"
        ) from error


def _difference(found: NDArray[Any], expected: NDArray[Any], in_units: bool) -> float:
    """Infinite where shapes differ or anything is not a number."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    unit = max(SMALLEST_UNIT, float(np.abs(expected).max(initial=0.0))) if in_units else 1.0
    return float(np.abs(found - expected).max(initial=0.0)) / unit


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors of a model's output in order, nested ones too."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return _tensors(tuple(outputs.values()))
    return [tensor for value in outputs for tensor in _tensors(value)] if isinstance(outputs, (tuple, list)) else []
