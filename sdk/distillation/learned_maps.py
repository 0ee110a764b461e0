"""Learned maps: W_h (Jiao et al., 2020) takes hidden states to the teacher's width; no student keeps it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edgefold.reachability import keep_reachable

NAME = "edgefold_maps"


class LearnedMaps(nn.Module):
    """h W with one W: (p, d) for each pair of widths that occurs, orthonormal at the start.

    Args:
        widths: (p of the student, d of the teacher).
    """

    def __init__(self, widths: Iterable[tuple[int, int]]) -> None:
        super().__init__()
        self.weights = nn.ParameterDict(
            {_key(p, d): nn.Parameter(nn.init.orthogonal_(Tensor(p, d))) for p, d in sorted(set(widths))}
        )

    def forward(self, hidden: Tensor, width: int) -> Tensor:
        """hidden: (..., p) -> (..., width)."""
        mapped: Tensor = hidden @ self.weights[_key(hidden.shape[-1], width)].to(hidden.dtype)
        return mapped


@contextmanager
def attached(maps: LearnedMaps, student: nn.Module) -> Iterator[None]:
    """Within the block, the maps are part of the student: trained with it and saved in its checkpoints."""
    if not len(maps.weights):
        yield
        return

    def reach(_module: nn.Module, _args: Any, outputs: Any) -> Any:
        return keep_reachable(outputs, list(maps.parameters()))

    student.add_module(NAME, maps)
    handle = student.register_forward_hook(reach)
    try:
        yield
    finally:
        handle.remove()
        delattr(student, NAME)


def _key(student: int, teacher: int) -> str:
    return f"{student}-{teacher}"
