"""check_nm: whether weights hold to N of every M along their inputs, or which of them is the first that does not."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from edgefold.errors import InputError
from edgefold.low_rank import is_named
from edgefold.masks.laws import as_matrix

INPUT_AXIS: dict[type[nn.Module], int] = {nn.Linear: 1, Conv1D: 0, nn.Conv1d: 1, nn.Conv2d: 1, nn.Conv3d: 1}
"""Layers with a weight that multiplies inputs, and the axis of that weight along which they lie."""


def check_nm(weights: nn.Module | Mapping[str, Tensor], n: int, m: int, where: str = "*") -> int:
    """Refuse weights of which more than n of m consecutive inputs of an output are not zero; returns how many hold.

    Args:
        weights: a module, whose linear and convolutional layers are checked, but for those that NM leaves dense:
            convolutions of several groups, and layers whose inputs `m` does not divide; or tensors
            (outputs, inputs, *kernel) by name.
        where: a layer's qualified name, a part of it between dots, or a glob.

    Raises:
        InputError: the first tensor, row and inputs that do not hold; or there is nothing to check.
    """
    checked = 0
    for name, matrix in _matrices(weights, m):
        if is_named(name, where):
            _check_matrix(name, matrix, n, m)
            checked += 1
    if not checked:
        raise InputError(
            f"No weight that {where!r} matches has a multiple of {m} inputs, so none can be {n}:{m} sparse."
        )
    return checked


def _matrices(weights: nn.Module | Mapping[str, Tensor], m: int) -> Iterator[tuple[str, Tensor]]:
    """Every weight with its name as (rows, inputs)."""
    if isinstance(weights, nn.Module):
        for name, layer in weights.named_modules():
            axis = next((axis for kind, axis in INPUT_AXIS.items() if isinstance(layer, kind)), None)
            if axis is None or getattr(layer, "groups", 1) > 1:
                continue
            weight = layer.weight
            if isinstance(weight, Tensor) and weight.shape[axis] % m == 0:
                yield name, as_matrix(weight.detach(), axis)
        return
    for name, weight in weights.items():
        if weight.dim() < 2 or weight.shape[1] % m:
            raise InputError(
                f"{name} of shape {tuple(weight.shape)} has no multiple of {m} inputs along its second axis."
            )
        yield name, as_matrix(weight.detach(), 1)


def _check_matrix(name: str, matrix: Tensor, n: int, m: int) -> None:
    counts = (matrix != 0).reshape(len(matrix), -1, m).sum(-1)
    wrong = (counts > n).nonzero()
    if len(wrong):
        row, group = (int(index) for index in wrong[0])
        raise InputError(
            f"{name} is not {n}:{m} sparse: in row {row}, of inputs {group * m} to {group * m + m - 1}, "
            f"{int(counts[row, group])} weights are not zero ({len(wrong)} such groups in all). Fold a student whose "
            f"plan has NM({n}, {m}), and change no weights after that."
        )
