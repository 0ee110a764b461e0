"""What a student computes that its teacher computes too: where in either, and in which space."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Match:
    """A value of the student that lies in the same space as one of the teacher's, up to the dimension's map.

    Both are places: the path of a module, for what comes out of it, or "> " and a path, for what enters it.
    """

    module: str
    dimension: str
    teacher: str = ""
    """Its place in the teacher; empty where it is the same."""
    scale: Tensor | None = field(default=None, compare=False)
    """Of a norm: the factors (d,) of the teacher's output that the student has in the norm's readers instead."""
    through: Tensor | None = field(default=None, compare=False)
    """(teacher's d, d): what takes the teacher's value into the space that the dimension's map begins in, where the
    student was made from an earlier student of this teacher."""

    @property
    def teacher_module(self) -> str:
        return self.teacher or self.module


@dataclass(frozen=True)
class Part:
    """Some columns of the value at a place: queries, keys or values, alone or side by side in one product."""

    place: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class AttentionMatch:
    """The attention of one layer: its queries, keys and values in student and teacher, in the order they are made."""

    layer: str
    """Path of the student's layer; empty outside of a list of layers."""
    teacher_layer: str
    parts: tuple[tuple[Part, Part], ...]
    """(student's, teacher's)."""
    heads: tuple[int, ...]
    """For each head of the student the teacher's that it stems from."""
