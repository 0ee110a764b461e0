"""Laws of the union-find over axes."""

import pytest

from edgefold.axes import AxisSpaces


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
