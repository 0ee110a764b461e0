"""join(student, earlier): what a student of a student computes, found again in the first one's teacher."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from edgefold.matches import AttentionMatch, Match
from edgefold.projections import Projection
from edgefold.structure.layer_dropping import path_before
from edgefold.students import Student


def join(student: Student, earlier: Student) -> None:
    """Hold a student, which was built from the plain weights of an earlier one, against the earlier one's teacher.

    A teacher's value y goes through the map of the earlier student and then through the student's own, P_2^T P_1^T y.
    In place: the student's matches name places of the teacher from here on. Those that the earlier student had no match
    for are gone.
    """
    student.matches = tuple(_joined(student.matches, earlier.matches, earlier))
    ways_in = [match for match in (earlier.entrance,) if match]
    student.entrance = next(_joined([student.entrance] if student.entrance else [], ways_in, earlier), None)
    student.attentions = tuple(
        joined
        for match in student.attentions
        for before in earlier.attentions
        if before.layer == match.teacher_layer and (joined := _joined_attention(match, before))
    )
    kept, before_kept = student.structure.layer_map, earlier.structure.layer_map
    shortened = {path.rpartition(".")[0] for path in kept}
    untouched = {path: old for path, old in before_kept.items() if path.rpartition(".")[0] not in shortened}
    joined_layers = {path: path_before(old, before_kept) for path, old in kept.items()}
    student.structure = replace(student.structure, layer_map={**untouched, **joined_layers})


def _joined(matches: Iterable[Match], before: Iterable[Match], earlier: Student) -> Iterator[Match]:
    places = {match.module: match for match in before}
    for match in matches:
        first = places.get(match.teacher_module)
        if first is not None:
            through = _way(first, match, earlier)
            yield Match(match.module, match.dimension, first.teacher_module, through=through)


def _way(first: Match, second: Match, earlier: Student) -> Tensor | None:
    """(teacher's d, d): through the earlier match, its map, and what the second one divides by."""
    way, scale = first.through, first.scale
    matrix = _matrix(earlier, first.dimension)
    if scale is not None:
        inverse = torch.diag(1 / scale.double())
        way = inverse if way is None else way.double() @ inverse
    if matrix is not None:
        way = matrix if way is None else way.double() @ matrix
    if second.scale is not None:
        inverse = torch.diag(1 / second.scale.double())
        way = inverse if way is None else way.double() @ inverse
    return way


def _matrix(student: Student, dimension: str) -> Tensor | None:
    """The map of a dimension as (d, p); None where it has none."""
    map = student.maps().get(dimension)
    if map is None:
        return None
    if isinstance(map, Projection):
        return map.matrix
    return torch.eye(student.structure.sizes[dimension][0], dtype=torch.float64)[:, map.indices.cpu()]


def _joined_attention(match: AttentionMatch, before: AttentionMatch) -> AttentionMatch | None:
    """Parts and heads, traced back through both; None where a part has no counterpart."""
    originals = dict(before.parts)
    if any(other not in originals for _, other in match.parts):
        return None
    parts = tuple((mine, originals[other]) for mine, other in match.parts)
    return AttentionMatch(match.layer, before.teacher_layer, parts, tuple(before.heads[head] for head in match.heads))
