"""Pairs of a student that build_student made: its matches, held against the layers it was made from or others."""

from collections import Counter

from torch import nn

from edgefold.distillation.captures import has_maps
from edgefold.distillation.layer_maps import map_layers
from edgefold.distillation.objectives import Objective
from edgefold.distillation.places import MapPair, Pair
from edgefold.matches import AttentionMatch, Part
from edgefold.structure.layer_dropping import path_before
from edgefold.structure.stacks import Stack, find_stacks
from edgefold.students import Student


class BuiltPairs:
    """As `Source`."""

    def __init__(self, student: Student, teacher: nn.Module, objective: Objective) -> None:
        self._student, self._teacher, self._objective = student, teacher, objective
        stacks = find_stacks(teacher)
        deepest = max((stack.depth for stack in stacks), default=0)
        self._stacks = [stack for stack in stacks if stack.depth == deepest]

    def hidden(self) -> tuple[Pair, ...]:
        pairs = (
            Pair(match.module, teacher, match.dimension, match.scale, match.through)
            for match in self._student.matches
            if (teacher := self._counterpart(match.module, match.teacher_module))
        )
        return tuple(pairs)

    def embeddings(self) -> tuple[Pair, ...]:
        entrance = self._student.entrance
        return (
            (Pair(entrance.module, entrance.teacher_module, entrance.dimension, through=entrance.through),)
            if entrance
            else ()
        )

    def contrast(self) -> tuple[Pair, ...]:
        """The place asked for, else the last along the dimension with the most matches."""
        matches = {match.module: match for match in self._student.matches}
        at = self._objective.contrast.at
        if at is not None and at not in matches:
            return (Pair(at, path_before(at, self._student.structure.layer_map)),)
        ((main, _),) = Counter(match.dimension for match in matches.values()).most_common(1) or (("", 0),)
        along = [match for match in matches.values() if match.dimension == main]
        chosen = matches[at] if at is not None else along[-1] if along else None
        if chosen is None:
            return ()
        return (Pair(chosen.module, chosen.teacher_module, chosen.dimension, chosen.scale, chosen.through),)

    def maps(self) -> tuple[MapPair, ...]:
        if not (has_maps(self._student.module) and has_maps(self._teacher)):
            return ()
        pairs = (
            MapPair(_index(match.layer), _index(layer), match.heads if layer == match.teacher_layer else None)
            for match in self._student.attentions
            if match.layer and (layer := self._counterpart(match.layer, match.teacher_layer))
        )
        return tuple(pairs)

    def relations(self) -> tuple[tuple[Part, Part], ...]:
        """Of the last layer that has a counterpart, or of the modules asked for."""
        if self._objective.relation_modules:
            return tuple((Part(mine), Part(other)) for mine, other in self._objective.relation_modules)
        for match in reversed(self._student.attentions):
            if (layer := self._counterpart(match.layer, match.teacher_layer)) is not None:
                return _moved(match, layer)
        return ()

    def _counterpart(self, place: str, teacher: str) -> str | None:
        """The teacher's place under the objective's layer map; None where that has none."""
        if self._objective.layer_map == "auto":
            return teacher
        for stack in self._stacks:
            prefix = f"{stack.path}." if stack.path else ""
            if place.startswith(prefix) and (index := place[len(prefix) :].partition(".")[0]).isdigit():
                layers = dict(map_layers(self._depth(stack), stack.depth, self._objective.layer_map))
                rest = teacher[len(prefix) :].partition(".")[2]
                moved = ".".join(filter(None, (stack.layer(layers[int(index)]), rest))) if int(index) in layers else ""
                return moved if moved in dict(self._teacher.named_modules()) else None
        return teacher

    def _depth(self, stack: Stack) -> int:
        """How many of a stack's layers the student has."""
        kept = [path for path in self._student.structure.layer_map if path.rpartition(".")[0] == stack.path]
        return len(kept) or stack.depth


def _moved(match: AttentionMatch, layer: str) -> tuple[tuple[Part, Part], ...]:
    """A layer's parts, held against those of another layer of the teacher."""
    before = len(match.teacher_layer)
    return tuple((mine, Part(layer + other.place[before:], other.start, other.stop)) for mine, other in match.parts)


def _index(layer: str) -> int:
    return int(layer.rpartition(".")[2])
