"""Pairs: which value of the student each loss holds against which of the teacher's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from torch import Tensor, nn

from edgefold.distillation.built_pairs import BuiltPairs
from edgefold.distillation.captures import has_maps
from edgefold.distillation.objectives import Objective
from edgefold.distillation.places import MapPair, Pair
from edgefold.distillation.plain_pairs import PlainPairs
from edgefold.errors import InputError
from edgefold.matches import Part
from edgefold.students import Student

T = TypeVar("T")
Inputs = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Pairs:
    """All that an objective compares."""

    hidden: tuple[Pair, ...] = ()
    embeddings: tuple[Pair, ...] = ()
    contrast: tuple[Pair, ...] = ()
    maps: tuple[MapPair, ...] = ()
    relations: tuple[tuple[Part, Part], ...] = ()

    @property
    def unmapped(self) -> tuple[Pair, ...]:
        """The pairs for which no plan has a map, so that widths that differ need a learned one."""
        return tuple(pair for pair in (*self.hidden, *self.embeddings, *self.contrast) if pair.dimension is None)


class Source(Protocol):
    """Where pairs come from; each method gives none where there are none."""

    def hidden(self) -> tuple[Pair, ...]: ...
    def embeddings(self) -> tuple[Pair, ...]: ...
    def contrast(self) -> tuple[Pair, ...]: ...
    def maps(self) -> tuple[MapPair, ...]: ...
    def relations(self) -> tuple[tuple[Part, Part], ...]: ...


def find_pairs(
    student: nn.Module, teacher: nn.Module | None, objective: Objective, inputs: Inputs = lambda: {}
) -> Pairs:
    """What the objective's weights above 0 need.

    Args:
        teacher: may be left out where the objective needs none.
        inputs: gives example tensors, with which modules that build_student did not make are traced for `relations`.

    Raises:
        InputError: a weight asks for a match that these models do not have.
    """
    other = student if teacher is None else teacher
    source: Source = (
        BuiltPairs(student, other, objective)
        if isinstance(student, Student)
        else PlainPairs(student, other, objective, inputs)
    )

    def wanted(name: str, weight: float, find: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
        found = find() if weight else ()
        if weight and not found:
            raise _refused(name)
        return found

    return Pairs(
        hidden=wanted("hidden" if objective.hidden else "cosine", objective.hidden + objective.cosine, source.hidden),
        embeddings=wanted("embeddings", objective.embeddings, source.embeddings),
        contrast=wanted("contrastive", objective.contrastive, source.contrast),
        maps=wanted("attention", objective.attention, source.maps),
        relations=wanted("relations", objective.relations, source.relations),
    )


def check_teacher(objective: Objective, teacher: nn.Module) -> None:
    """Refuse what no student of this teacher could be compared by.

    Raises:
        InputError: attention maps of a teacher that gives none.
    """
    if objective.attention and not has_maps(teacher):
        raise _refused("attention")


def _refused(name: str) -> InputError:
    return InputError(f"Objective({name} > 0) {NEEDS[name]}; set {name}=0 for this student.")


_STATES = "needs a built student with a linear dimension, or a list of like layers in both models"
NEEDS = {
    "hidden": _STATES,
    "cosine": _STATES,
    "embeddings": "needs a list of like layers in both models, which the embeddings enter",
    "contrastive": f"{_STATES}, or Contrast(at=...) with the path of the module whose output is compared",
    "attention": "needs Hugging Face models with a list of like layers, for these give their attention maps",
    "relations": (
        "needs layers with attention heads that tracing finds, or relation_modules=[(student path, teacher path), ...]"
    ),
}
"""What each term asks of the models."""
