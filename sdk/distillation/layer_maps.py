"""Layer maps: which layer of a teacher each layer of a student is held against, at any two depths."""

from collections.abc import Callable, Sequence

from edgefold.errors import InputError

Pairs = tuple[tuple[int, int], ...]


def map_layers(student: int, teacher: int, how: str | Sequence[tuple[int, int]] = "uniform") -> Pairs:
    """(student layer, teacher layer) from 0, for a student of n layers and a teacher of N.

    Args:
        how: "uniform" (or "auto"): i -> ceil((i + 1) N / n) - 1, evenly spread, the last to the last; "last":
            i -> N - n + i (both in Sun et al., 2019); or the pairs themselves.

    Raises:
        InputError: a pair of layers that are not there, or "last" for a student deeper than its teacher.
    """
    if isinstance(how, str):
        return LAYER_MAPS[how](student, teacher)
    for mine, other in how:
        if mine >= student or other >= teacher:
            raise InputError(
                f"The layer map's pair ({mine}, {other}) does not fit a student of {student} layers and a teacher of "
                f"{teacher}; indices begin at 0."
            )
    return tuple(how)


def _uniform(student: int, teacher: int) -> Pairs:
    return tuple((i, -(-(i + 1) * teacher // student) - 1) for i in range(student))


def _last(student: int, teacher: int) -> Pairs:
    if student > teacher:
        raise InputError(
            f"layer_map='last' needs a teacher at least as deep as the student; got {teacher} layers for {student}. "
            "Use 'uniform'."
        )
    return tuple((i, teacher - student + i) for i in range(student))


LAYER_MAPS: dict[str, Callable[[int, int], Pairs]] = {"auto": _uniform, "uniform": _uniform, "last": _last}
