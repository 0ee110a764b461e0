"""Which axes of the inputs are dynamic, under shared names, and example inputs of other sizes to check with."""

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.export import Dim

from edgefold.errors import InputError
from edgefold.tracing.position_tables import position_limit

logger = logging.getLogger(__name__)
DynamicAxes = dict[str, dict[int, str]]
"""Name of an input -> axis -> name of its dynamic dimension."""


def find_dynamic_axes(inputs: Mapping[str, Tensor]) -> DynamicAxes:
    """The first axis of every input is "batch"; the second of a matrix of whole numbers (ids, masks) is "sequence".

    So is that of what has as many rows and columns and more for each: boxes of words, vectors beside a mask.

    Raises:
        InputError: an input has no batch axis, or sizes under one name differ.
    """
    axes: DynamicAxes = {}
    whole = {name: value for name, value in inputs.items() if not value.is_floating_point()}
    matrices = [value.shape for value in whole.values() if value.dim() == 2]
    for name, value in inputs.items():
        is_beside_tokens = value.shape[:2] in matrices and (name in whole or value.dim() == 3)
        is_tokens = (name in whole and value.dim() == 2) or is_beside_tokens
        axes[name] = {0: "batch", 1: "sequence"} if is_tokens else {0: "batch"}
    check_dynamic_axes(inputs, axes)
    return axes


def check_dynamic_axes(inputs: Mapping[str, Tensor], axes: DynamicAxes) -> None:
    """Refuse axes that do not describe these inputs.

    Raises:
        InputError: an input without a batch axis, names that fit no input or axis, or sizes under one name that differ.
    """
    sizes: dict[str, int] = {}
    for name, value in inputs.items():
        if value.dim() == 0:
            raise InputError(f"Input {name} is a scalar; every input needs a batch axis first.")
        if axes.get(name, {}).get(0) != "batch" or max(axes[name]) >= value.dim():
            raise InputError(
                f"The dynamic axes of {name}, of shape {tuple(value.shape)}, are {axes.get(name)}; give each input a "
                f'dict of axes below {value.dim()} to names, 0 to "batch".'
            )
        for axis, label in axes[name].items():
            if sizes.setdefault(label, value.shape[axis]) != value.shape[axis]:
                raise InputError(
                    f"The inputs disagree on {label}: {name} has {value.shape[axis]}, one before it {sizes[label]}; "
                    "give example inputs of one batch, or say with dynamic_axes which sizes may change, by their names."
                )


def without_fixed(model: nn.Module, inputs: Mapping[str, Tensor], axes: DynamicAxes) -> DynamicAxes:
    """The axes but for those whose size the model does not let change, as of a position for each token; a log tells.

    All stay where the model does not run on the inputs as they are, or not with other rows.
    """
    if not _runs(model, inputs, axes, {}) or not _runs(model, inputs, axes, {"batch": 1}):
        return axes
    found = {label: inputs[name].shape[axis] for name, named in axes.items() for axis, label in named.items()}
    fixed = {
        label
        for label, size in found.items()
        if label != "batch" and not any(_runs(model, inputs, axes, {label: n}) for n in {size - 1, size + 1, size // 2})
    }
    for label in sorted(fixed):
        logger.warning(
            "The model runs at no other size of %s than %d; what is exported has that one alone.", label, found[label]
        )
    return {name: {axis: label for axis, label in named.items() if label not in fixed} for name, named in axes.items()}


def _least(size: int) -> int:
    return max(2, size)


def _runs(model: nn.Module, inputs: Mapping[str, Tensor], axes: DynamicAxes, sizes: Mapping[str, int]) -> bool:
    try:
        with torch.no_grad():
            model(**{name: _resized(value, axes[name], sizes) for name, value in inputs.items()})
    except Exception:  # whatever a model says of a size that it does not take
        return False
    return True


def longest_rows(model: nn.Module, inputs: Mapping[str, Tensor], axes: DynamicAxes) -> dict[str, int]:
    """Name of a size of tokens -> the most that the model has positions for; without it, a trace of such a model ends
    in the same bound, and has to be made once more."""
    limit = position_limit(model)
    tokens = [name for name, value in inputs.items() if not value.is_floating_point()]
    sizes = {label: inputs[name].shape[axis] for name in tokens for axis, label in axes[name].items()}
    return {label: limit for label, size in sizes.items() if label != "batch" and limit is not None and size <= limit}


def shared_dims(
    axes: DynamicAxes, shortest: int | None = None, longest: Mapping[str, int] | None = None
) -> dict[str, dict[int, Dim]]:
    """For torch.export: one Dim object for each name, so that the inputs keep a common batch and sequence.

    Args:
        shortest: of all but the batch, for models that tell one size from others: a slice of a row but its first token.
        longest: of some, by name.
    """
    labels = {label for named in axes.values() for label in named.values()}
    dims = {
        label: Dim(label, min=None if label == "batch" else shortest, max=(longest or {}).get(label))
        for label in sorted(labels)
    }
    return {name: {axis: dims[label] for axis, label in named.items()} for name, named in axes.items()}


def distinct_inputs(inputs: Mapping[str, Tensor], axes: DynamicAxes) -> dict[str, Tensor]:
    """Copies that share no memory, with at least two rows and two tokens.

    One tensor object given for two inputs ties them silently, and a size of 1 would be taken for a constant.
    """
    least = {label: 2 for named in axes.values() for label in named.values()}
    return {name: _resized(value, axes[name], least, at_least=True) for name, value in inputs.items()}


def ragged_variants(inputs: Mapping[str, Tensor], axes: DynamicAxes) -> list[dict[str, Tensor]]:
    """The inputs at other sizes: one short row; three rows, with padding at the end of the masks."""
    found = {label: inputs[name].shape[axis] for name, named in axes.items() for axis, label in named.items()}
    short = {**{label: _least(size // 2) for label, size in found.items()}, "batch": 1}
    tall = {**{label: _least(size - 1) for label, size in found.items()}, "batch": 3}
    variants = [{n: _resized(v, axes[n], sizes) for n, v in inputs.items()} for sizes in (short, tall)]
    for name, value in variants[1].items():
        is_tokens = value.dim() == 2 or "sequence" in axes[name].values()
        if "mask" in name and is_tokens and value.shape[-1] > 2:
            value[1, ..., value.shape[-1] // 2 :] = 0
    return [dict(inputs), *variants]


def _resized(value: Tensor, named: Mapping[int, str], sizes: Mapping[str, int], at_least: bool = False) -> Tensor:
    """A copy with some axes at other sizes, repeated as needed and cut."""
    for axis, label in named.items():
        if label not in sizes:
            continue
        wanted = max(sizes[label], value.shape[axis]) if at_least else sizes[label]
        repeats = -(-wanted // value.shape[axis])
        value = torch.cat([value] * repeats, dim=axis).narrow(axis, 0, wanted)
    return value.clone().contiguous()


def shape_names(shape: Sequence[object]) -> tuple[int | str, ...]:
    """A shape as an artifact states it."""
    return tuple(size if isinstance(size, int) else str(size) for size in shape)
