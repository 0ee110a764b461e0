"""Pairs of two models that were made apart: the layers of their longest stacks, by a layer map."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from edgefold.dimensions import trace
from edgefold.distillation.captures import ENTRANCE, has_maps
from edgefold.distillation.layer_maps import map_layers
from edgefold.distillation.objectives import Objective
from edgefold.distillation.places import MapPair, Pair
from edgefold.errors import InputError
from edgefold.match_finding import MatchFinder
from edgefold.matches import Part
from edgefold.structure.restructuring import Restructured
from edgefold.structure.stacks import Stack, find_stacks


class PlainPairs:
    """As `Source`. What a layer puts out, the first tensor of it, is its hidden state."""

    def __init__(
        self, student: nn.Module, teacher: nn.Module, objective: Objective, inputs: Callable[[], Mapping[str, Tensor]]
    ) -> None:
        self._student, self._teacher, self._objective, self._inputs = student, teacher, objective, inputs
        self._stacks = list(zip(_longest(student), _longest(teacher), strict=False))

    def hidden(self) -> tuple[Pair, ...]:
        return tuple(
            Pair(mine.layer(i), other.layer(j)) for mine, other in self._stacks for i, j in self._layers(mine, other)
        )

    def embeddings(self) -> tuple[Pair, ...]:
        return tuple(Pair(ENTRANCE + mine.layer(0), ENTRANCE + other.layer(0)) for mine, other in self._stacks[:1])

    def contrast(self) -> tuple[Pair, ...]:
        at = self._objective.contrast.at
        if at is not None:
            return (Pair(at, at),)
        return tuple(
            Pair(mine.layer(mine.depth - 1), other.layer(other.depth - 1)) for mine, other in self._stacks[-1:]
        )

    def maps(self) -> tuple[MapPair, ...]:
        if not (has_maps(self._student) and has_maps(self._teacher)):
            return ()
        return tuple(MapPair(i, j) for mine, other in self._stacks[:1] for i, j in self._layers(mine, other))

    def relations(self) -> tuple[tuple[Part, Part], ...]:
        if self._objective.relation_modules:
            return tuple((Part(mine), Part(other)) for mine, other in self._objective.relation_modules)
        inputs = self._inputs() if self._stacks else {}
        if not inputs:
            return ()
        mine, other = self._stacks[-1]
        i, j = self._layers(mine, other)[-1]
        parts = _parts(self._student, mine.layer(i), inputs), _parts(self._teacher, other.layer(j), inputs)
        if len(parts[0]) != len(parts[1]):
            raise InputError(
                f"Layer {mine.layer(i)} of the student makes {len(parts[0])} of queries, keys and values, layer "
                f"{other.layer(j)} of the teacher {len(parts[1])}; name the modules with relation_modules="
                "[(student path, teacher path), ...], or set relations=0 for this student."
            )
        return tuple(zip(*parts, strict=True))

    def _layers(self, mine: Stack, other: Stack) -> tuple[tuple[int, int], ...]:
        return map_layers(mine.depth, other.depth, self._objective.layer_map)


def _longest(model: nn.Module) -> list[Stack]:
    """The deepest stacks of a model: one, or encoder and decoder."""
    stacks = find_stacks(model)
    deepest = max((stack.depth for stack in stacks), default=0)
    return [stack for stack in stacks if stack.depth == deepest]


def _parts(model: nn.Module, layer: str, inputs: Mapping[str, Tensor]) -> list[Part]:
    """The queries, keys and values that one layer makes, in their order."""
    found = MatchFinder(trace(model, inputs), model, Restructured(model, model)).attentions({})
    return [part for match in found if match.layer == layer for part, _ in match.parts]
