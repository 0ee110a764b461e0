"""Classes of tensor axes: a union-find whose elements may turn out to be products or direct sums of smaller ones.

An *atom* is one vector space; an *axis* is a row-major product of atoms, written as a tuple (the empty tuple is an
axis of size 1). A reshape of 384 into 12 x 32 refines the atom of size 384 into a product of two, a split of 768 into
512 and 256 into a sum of two; whatever was unified with it follows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Axis = tuple[int, ...]


@dataclass
class Space:
    """What is known of one class of atoms."""

    size: int
    factors: Axis | None = None
    """It is this product."""
    parts: tuple[Axis, ...] | None = None
    """It is the direct sum of these axes, one after the other."""
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
        self.only_sizes = False
        """While it is true, axes are joined and nothing else is learned: for operators whose results nobody reads."""

    # --- what there is ------------------------------------------------------------

    def new(self, size: int, fixed: str | None = None) -> Axis:
        """A fresh axis of the given size; the empty product when the size is 1."""
        if size == 1:
            return ()
        atom = len(self._parent)
        self._parent.append(atom)
        self._space[atom] = Space(size, fixed=[fixed] if fixed and not self.only_sizes else [])
        return (atom,)

    def space(self, atom: int) -> Space:
        return self._space[self.find(atom)]

    def find(self, atom: int) -> int:
        while self._parent[atom] != atom:
            self._parent[atom] = self._parent[self._parent[atom]]
            atom = self._parent[atom]
        return atom

    def size(self, axis: Axis) -> int:
        return math.prod(self.space(atom).size for atom in axis)

    def leaves(self, axis: Axis) -> Axis:
        """The axis as a product of classes that are no products themselves; a sum counts as one of them."""
        result: list[int] = []
        for atom in axis:
            root = self.find(atom)
            factors = self._space[root].factors
            result.extend((root,) if factors is None else self.leaves(factors))
        return tuple(result)

    def atoms(self, axis: Axis) -> Iterator[int]:
        """Every irreducible class in the axis, also those inside sums."""
        for leaf in self.leaves(axis):
            parts = self._space[leaf].parts
            if parts is None:
                yield leaf
            else:
                for part in parts:
                    yield from self.atoms(part)

    def products(self, axis: Axis) -> Iterator[Axis]:
        """The products that the axis consists of: itself, and the parts of its sums."""
        leaves = self.leaves(axis)
        yield leaves
        for leaf in leaves:
            for part in self._space[leaf].parts or ():
                yield from self.products(part)

    # --- what is learned of them ------------------------------------------------------------

    def mark_nonlinear(self, axis: Axis) -> None:
        if self.only_sizes:
            return
        for atom in self.atoms(axis):
            self._space[atom].nonlinear = True

    def mark_fixed(self, axis: Axis, reason: str) -> None:
        if self.only_sizes:
            return
        for atom in self.atoms(axis):
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
                self._join(x, y, where)
            elif self._space[x].parts is None:
                self._refine(x, tuple(taken))
            else:
                self._join_sum_and_product(x, taken, where)

    def _join(self, x: int, y: int, where: str) -> None:
        """Two leaves of one size."""
        if self._space[x].parts is None:
            x, y = y, x
        mine, others = (tuple(self._flat(self._space[atom].parts or ())) for atom in (x, y))
        self._merge(x, y)
        if not others or mine == others:
            return
        bounds = sorted({*self._bounds(mine), *self._bounds(others)})
        left, right = (self._cut_parts(parts, bounds, where) for parts in (mine, others))
        if left is None or right is None:
            self._fix_both((x,), tuple(atom for part in others for atom in part), f"{where} joins sums that overlap")
            return
        for one, other in zip(left, right, strict=True):
            self.unify(one, other, where)

    def _join_sum_and_product(self, x: int, factors: list[int], where: str) -> None:
        """A sum of n equal parts is n x part: the parts become one, and n is fixed."""
        parts = tuple(self._flat(self._space[x].parts or ()))
        count, part = (factors[0],), tuple(factors[1:])
        if self.size(count) != len(parts) or any(self.size(each) != self.size(part) for each in parts):
            self._fix_both((x,), tuple(factors), f"{where} joins a sum and a product that do not line up")
            return
        self.mark_fixed(count, f"the number of blocks that {where} joins")
        for each in parts:
            self.unify(each, part, where)

    # --- products ------------------------------------------------------------

    def reshape(self, axes: list[Axis], shape: list[int], where: str, *, has_heads: bool = True) -> list[Axis]:
        """The axes of a row-major reshape: products are merged and split, and refined where a cut falls inside.

        Args:
            has_heads: whether the leading factor of an axis that is split are heads.
        """
        pending = [atom for axis in axes for atom in self.leaves(axis)]
        result: list[Axis] = []
        for index, size in enumerate(shape):
            taken: list[int] = []
            while self.size(tuple(taken)) < size and pending:
                atom = self.find(pending.pop(0))
                room = size // self.size(tuple(taken))
                if self._space[atom].size > room and self._space[atom].size % room == 0 and room > 1:
                    pair = self._split(atom, room, where, has_heads)
                    if pair is not None:
                        atom, rest = pair
                        pending.insert(0, rest)
                taken.append(atom)
            if self.size(tuple(taken)) != size:
                for axis in axes:
                    self.mark_fixed(axis, f"{where} mixes axes")
                return result + [self.new(rest, f"{where} mixes axes") for rest in shape[index:]]
            result.append(tuple(taken))
        return result

    def _split(self, atom: int, leading: int, where: str, has_heads: bool) -> tuple[int, int] | None:
        """Refine an atom of size n into (leading, n / leading); None for a sum whose parts do not split so."""
        trailing = self._space[atom].size // leading
        parts = self._space[atom].parts
        first, second = self.new(leading)[0], self.new(trailing)[0]
        if parts is not None:
            if any(self.size(part) % trailing for part in parts):
                return None
            heads = []
            for part in parts:
                head, rest = self.reshape([part], [self.size(part) // trailing, trailing], where, has_heads=has_heads)
                self.unify(rest, (second,), where)
                heads.append(head)
            self._space[first].parts = tuple(heads)
            self._space[atom].parts = None
        for leaf in self.atoms((first,)):
            self._space[leaf].head |= has_heads
        self._refine(atom, (first, second))
        return first, second

    # --- sums ------------------------------------------------------------

    def concatenate(self, axes: Sequence[Axis]) -> Axis:
        """The direct sum of axes; those of size 0 add nothing to it."""
        axes = [axis for axis in axes if self.size(axis)]
        if len(axes) == 1:
            return axes[0]
        total = self.new(sum(self.size(axis) for axis in axes))
        self._space[total[0]].parts = tuple(self._flat(axes))
        return total

    def cut(self, axis: Axis, sizes: Sequence[int], where: str) -> list[Axis]:
        """The axis as successive pieces of the given sizes; fixed where they cut through a product."""
        if self.only_sizes:
            return [self.new(size) for size in sizes]
        bounds = [0]
        for size in filter(None, sizes):
            bounds.append(bounds[-1] + size)
        pieces = self._cut(axis, bounds, where)
        if pieces is None:
            reason = f"cut by {where}"
            self.mark_fixed(axis, reason)
            return [self.new(size, reason) for size in sizes]
        found = iter(pieces)
        return [next(found) if size else self.new(0) for size in sizes]

    def _cut(self, axis: Axis, bounds: Sequence[int], where: str) -> list[Axis] | None:
        """Pieces between the bounds, or None."""
        if list(bounds) == [0, self.size(axis)]:
            return [axis]
        leaves = self.leaves(axis)
        if not leaves:
            return None
        first, rest = leaves[0], leaves[1:]
        width = self.size(rest)
        if any(bound % width for bound in bounds):
            return None
        parts = self._space[first].parts
        inner = [bound // width for bound in bounds]
        if parts is None:
            parts = tuple(self.new(stop - start) for start, stop in pairwise(inner))
            self._become_sum(first, parts)
        pieces = self._cut_parts(tuple(self._flat(parts)), inner, where)
        return None if pieces is None else [(*piece, *rest) for piece in pieces]

    def _cut_parts(self, parts: Sequence[Axis], bounds: Sequence[int], where: str) -> list[Axis] | None:
        """Regroup the parts of a sum between new bounds, cutting those that a bound falls into."""
        pending = list(parts)
        pieces: list[Axis] = []
        for start, stop in pairwise(bounds):
            piece: list[Axis] = []
            room = stop - start
            while room > 0:
                part = pending.pop(0)
                if self.size(part) > room:
                    halves = self._cut(part, [0, room, self.size(part)], where)
                    if halves is None:
                        return None
                    part = halves[0]
                    pending.insert(0, halves[1])
                piece.append(part)
                room -= self.size(part)
            pieces.append(self.concatenate(piece) if piece else ())
        return pieces

    def _flat(self, axes: Sequence[Axis]) -> Iterator[Axis]:
        for axis in axes:
            leaves = self.leaves(axis)
            parts = self._space[leaves[0]].parts if len(leaves) == 1 else None
            yield from self._flat(parts) if parts else (leaves,)

    def _bounds(self, parts: Sequence[Axis]) -> list[int]:
        bounds = [0]
        for part in parts:
            bounds.append(bounds[-1] + self.size(part))
        return bounds

    # --- the union-find ------------------------------------------------------------

    def _refine(self, atom: int, factors: Axis) -> None:
        space = self._space[atom]
        space.factors = factors
        for leaf in self.atoms(factors):
            self._absorb(self._space[leaf], space)

    def _become_sum(self, atom: int, parts: tuple[Axis, ...]) -> None:
        space = self._space[atom]
        space.parts = parts
        for leaf in self.atoms((atom,)):
            self._absorb(self._space[leaf], space)

    def _merge(self, a: int, b: int) -> None:
        """One class of two; a's parts stay, and what is known of either holds for all of them."""
        self._parent[b] = a
        gone = self._space.pop(b)
        if self._space[a].parts is None:
            self._absorb(self._space[a], gone)
        for leaf in self.atoms((a,)):
            self._absorb(self._space[leaf], gone)

    @staticmethod
    def _absorb(into: Space, other: Space) -> None:
        into.nonlinear |= other.nonlinear
        into.head |= other.head
        into.fixed += [reason for reason in other.fixed if reason not in into.fixed]

    def _fix_both(self, a: Axis, b: Axis, reason: str) -> None:
        self.mark_fixed(a, reason)
        self.mark_fixed(b, reason)
