"""Classes of tensor axes: a union-find whose elements may turn out to be products of smaller ones.

An *atom* is one vector space; an *axis* is a row-major product of atoms, written as a tuple (the empty tuple is an
axis of
size 1). A reshape of 384 into 12 x 32 refines the atom of size 384 into two; whatever was unified with it follows.
"""

import math
from dataclasses import dataclass, field

Axis = tuple[int, ...]


@dataclass
class Space:
    """What is known of one class of atoms."""

    size: int
    factors: Axis | None = None
    nonlinear: bool = False
    head: bool = False
    """Came out of a reshape that split a larger axis, as its leading factor."""
    fixed: list[str] = field(default_factory=list)
    """Reasons why its coordinates may not be changed; empty when they may."""


class AxisSpaces:
    """The union-find over atoms."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._space: dict[int, Space] = {}

    def new(self, size: int, fixed: str | None = None) -> Axis:
        """A fresh axis of the given size; the empty product when the size is 1."""
        if size == 1:
            return ()
        atom = len(self._parent)
        self._parent.append(atom)
        self._space[atom] = Space(size, fixed=[fixed] if fixed else [])
        return (atom,)

    def space(self, atom: int) -> Space:
        return self._space[self.find(atom)]

    def find(self, atom: int) -> int:
        while self._parent[atom] != atom:
            self._parent[atom] = self._parent[self._parent[atom]]
            atom = self._parent[atom]
        return atom

    def leaves(self, axis: Axis) -> Axis:
        """The axis written in irreducible classes."""
        result: list[int] = []
        for atom in axis:
            root = self.find(atom)
            factors = self._space[root].factors
            result.extend((root,) if factors is None else self.leaves(factors))
        return tuple(result)

    def size(self, axis: Axis) -> int:
        return math.prod(self.space(atom).size for atom in axis)

    def mark_nonlinear(self, axis: Axis) -> None:
        for atom in self.leaves(axis):
            self._space[atom].nonlinear = True

    def mark_fixed(self, axis: Axis, reason: str) -> None:
        for atom in self.leaves(axis):
            reasons = self._space[atom].fixed
            if reason not in reasons:
                reasons.append(reason)

    def unify(self, a: Axis, b: Axis, where: str) -> None:
        """Declare that both axes carry the same coordinates; where that cannot be expressed, both become fixed."""
        if self.size(a) != self.size(b):
            self._fix_both(a, b, f"{where} joins axes of sizes {self.size(a)} and {self.size(b)}")
            return
        left, right = list(self.leaves(a)), list(self.leaves(b))
        while left and right:
            x, y = self.find(left.pop(0)), self.find(right.pop(0))
            if x == y:
                continue
            if self._space[x].size < self._space[y].size:
                x, y, left, right = y, x, right, left
            taken = [y]
            while self.size(tuple(taken)) < self._space[x].size and right:
                taken.append(self.find(right.pop(0)))
            if self.size(tuple(taken)) != self._space[x].size or (len(taken) > 1 and x in taken):
                self._fix_both(a, b, f"{where} joins products that do not line up")
                return
            if len(taken) == 1:
                self._merge(x, y)
            else:
                self._refine(x, tuple(taken))

    def reshape(self, axes: list[Axis], shape: list[int], where: str) -> list[Axis]:
        """The axes of a row-major reshape: products are merged and split, and refined where a cut falls inside."""
        pending = [atom for axis in axes for atom in self.leaves(axis)]
        result: list[Axis] = []
        for index, size in enumerate(shape):
            taken: list[int] = []
            while self.size(tuple(taken)) < size and pending:
                atom = self.find(pending.pop(0))
                room = size // self.size(tuple(taken))
                if self._space[atom].size > room and self._space[atom].size % room == 0 and room > 1:
                    atom, rest = self._split(atom, room)
                    pending.insert(0, rest)
                taken.append(atom)
            if self.size(tuple(taken)) != size:
                for axis in axes:
                    self.mark_fixed(axis, f"{where} mixes axes")
                return result + [self.new(rest, f"{where} mixes axes") for rest in shape[index:]]
            result.append(tuple(taken))
        return result

    def _split(self, atom: int, leading: int) -> tuple[int, int]:
        """Refine an atom of size n into (leading, n / leading)."""
        first, second = self.new(leading)[0], self.new(self._space[atom].size // leading)[0]
        self._space[first].head = True
        self._refine(atom, (first, second))
        return first, second

    def _refine(self, atom: int, factors: Axis) -> None:
        space = self._space[atom]
        space.factors = factors
        for leaf in self.leaves(factors):
            self._absorb(self._space[leaf], space)

    def _merge(self, a: int, b: int) -> None:
        self._parent[b] = a
        self._absorb(self._space[a], self._space.pop(b))

    @staticmethod
    def _absorb(into: Space, other: Space) -> None:
        into.nonlinear |= other.nonlinear
        into.head |= other.head
        into.fixed += [reason for reason in other.fixed if reason not in into.fixed]

    def _fix_both(self, a: Axis, b: Axis, reason: str) -> None:
        self.mark_fixed(a, reason)
        self.mark_fixed(b, reason)
