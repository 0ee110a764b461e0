"""Two values held against one another: where each of them is computed."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Pair:
    """A place of the student and one of the teacher."""

    student: str
    teacher: str
    dimension: str | None = None
    """Of a student that was built from this teacher: its map takes the teacher's value into the student's space. None:
    widths that differ need a learned map."""
    scale: Tensor | None = field(default=None, compare=False)
    """What the teacher's value is divided by, coordinate by coordinate, before it is mapped."""
    through: Tensor | None = field(default=None, compare=False)
    """(teacher's d, d): what the teacher's value is multiplied by, before it is mapped."""


@dataclass(frozen=True)
class MapPair:
    """Two layers, from 0, whose attention maps are compared."""

    student: int
    teacher: int
    heads: tuple[int, ...] | None = None
    """The teacher's head that each of the student's stems from, where that is known."""
