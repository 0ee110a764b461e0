"""Laws of the union-find over axes."""

import pytest

from edgefold.tracing.axes import AxisSpaces


def test_unified_axes_share_marks_made_before_and_after() -> None:
    spaces = AxisSpaces()
    a, b = spaces.new(6), spaces.new(6)
    spaces.mark_nonlinear(a)
    spaces.unify(a, b, "add")
    spaces.mark_fixed(b, "because")
    assert spaces.space(b[0]).nonlinear
    assert spaces.space(a[0]).fixed == ["because"]


def test_a_reshape_refines_what_was_unified_before() -> None:
    spaces = AxisSpaces()
    a, weight = spaces.new(12), spaces.new(12)
    spaces.unify(a, weight, "linear")
    heads, inner = spaces.reshape([a], [3, 4], "view")
    assert spaces.leaves(weight) == (*heads, *inner)
    assert spaces.space(heads[0]).head
    assert not spaces.space(inner[0]).head


def test_a_reshape_and_its_inverse_give_the_same_classes() -> None:
    spaces = AxisSpaces()
    batch, a = spaces.new(5), spaces.new(12)
    split = spaces.reshape([batch, a], [5, 3, 4], "view")
    merged = spaces.reshape(split, [5, 12], "view")
    assert [spaces.leaves(axis) for axis in merged] == [spaces.leaves(batch), spaces.leaves(a)]


def test_axes_of_size_one_come_and_go() -> None:
    spaces = AxisSpaces()
    a = spaces.new(7)
    assert spaces.reshape([a], [1, 7, 1], "view") == [(), a, ()]


@pytest.mark.parametrize(("left", "right"), [(6, 4), (6, 7)])
def test_unequal_sizes_become_fixed_not_wrong(left: int, right: int) -> None:
    spaces = AxisSpaces()
    a, b = spaces.new(left), spaces.new(right)
    spaces.unify(a, b, "op")
    assert f"op joins axes of sizes {left} and {right}" in spaces.space(a[0]).fixed


def test_products_that_do_not_line_up_become_fixed() -> None:
    spaces = AxisSpaces()
    a, b = spaces.new(12), spaces.new(12)
    spaces.reshape([a], [3, 4], "view")
    spaces.reshape([b], [2, 6], "view")
    spaces.unify(a, b, "add")
    assert all(spaces.space(atom).fixed for atom in (*spaces.leaves(a), *spaces.leaves(b)))


def test_a_split_makes_a_sum_and_what_was_unified_follows() -> None:
    spaces = AxisSpaces()
    a, weight = spaces.new(12), spaces.new(12)
    spaces.unify(a, weight, "linear")
    left, right = spaces.cut(a, [8, 4], "split")
    assert list(spaces.atoms(weight)) == [*left, *right]
    spaces.mark_nonlinear(left)
    assert [spaces.space(atom).nonlinear for atom in spaces.atoms(weight)] == [True, False]


def test_joining_the_pieces_gives_the_same_classes() -> None:
    spaces = AxisSpaces()
    a = spaces.new(12)
    pieces = spaces.cut(a, [5, 4, 3], "split")
    spaces.unify(spaces.concatenate(pieces), a, "cat")
    assert not any(spaces.space(atom).fixed for atom in spaces.atoms(a))
    assert [spaces.space(atom).size for atom in spaces.atoms(a)] == [5, 4, 3]


def test_sums_with_other_bounds_are_cut_finer() -> None:
    spaces = AxisSpaces()
    a, b = spaces.new(12), spaces.new(12)
    spaces.cut(a, [8, 4], "split")
    spaces.cut(b, [6, 6], "split")
    spaces.unify(a, b, "add")
    assert [spaces.space(atom).size for atom in spaces.atoms(a)] == [6, 2, 4]
    assert list(spaces.atoms(a)) == [spaces.find(atom) for atom in spaces.atoms(b)]


def test_swapped_halves_become_one_class() -> None:
    """Rotary embedding: cat(-x2, x1) added to x ties the halves."""
    spaces = AxisSpaces()
    x = spaces.new(8)
    first, second = spaces.cut(x, [4, 4], "slice")
    spaces.unify(spaces.concatenate([second, first]), x, "add")
    assert len(set(spaces.atoms(x))) == 1


def test_heads_of_a_fused_product_are_cut_apart() -> None:
    """(2 + 1 + 1) heads x 3: the cut falls on whole heads, so each piece is heads x 3."""
    spaces = AxisSpaces()
    fused = spaces.new(12)
    heads, inner = spaces.reshape([fused], [4, 3], "view")
    pieces = spaces.cut(fused, [6, 3, 3], "split")
    assert [spaces.size(piece) for piece in pieces] == [6, 3, 3]
    assert all(spaces.leaves(piece)[-1:] == spaces.leaves(inner) for piece in pieces)
    assert [spaces.space(atom).size for atom in spaces.atoms(heads)] == [2]


def test_a_sum_of_equal_parts_and_a_product_are_one() -> None:
    spaces = AxisSpaces()
    total, product = spaces.new(12), spaces.new(12)
    parts = spaces.cut(total, [4, 4, 4], "chunk")
    count, inner = spaces.reshape([product], [3, 4], "view")
    spaces.unify(total, product, "linear")
    assert {spaces.find(part[0]) for part in parts} == {spaces.find(inner[0])}
    assert spaces.space(count[0]).fixed


def test_a_cut_through_a_product_is_fixed_not_wrong() -> None:
    spaces = AxisSpaces()
    a = spaces.new(12)
    heads, inner = spaces.reshape([a], [3, 4], "view")
    left, right = spaces.cut(a, [5, 7], "split")
    assert all("cut by split" in spaces.space(atom).fixed for atom in (*heads, *inner, *left, *right))


def test_pieces_of_size_zero_are_no_part_of_a_sum() -> None:
    """A rotation of the first 0 of 8 coordinates, and of all of them: x[..., :n] beside x[..., n:]."""
    spaces = AxisSpaces()
    axis = spaces.new(8)
    nothing, whole = spaces.cut(axis, [0, 8], "slice")
    assert (spaces.size(nothing), whole) == (0, axis)
    left, empty, right = spaces.cut(axis, [2, 0, 6], "slice")
    again = spaces.concatenate([nothing, left, empty, right])
    spaces.unify(axis, again, "add")
    assert [spaces.size(each) for each in (left, empty, right, again)] == [2, 0, 6, 8]
    assert spaces.size(spaces.concatenate([nothing, empty])) == 0
