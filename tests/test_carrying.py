"""Going on with another teacher: the body computes what it did, the head is the new teacher's in the same space."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from edgefold.errors import InputError
from edgefold.jobs.carrying import Lineage, carry_over, plain_of, shrink
from edgefold.plans import DropLayers, Plan, Project, Select
from edgefold.starts.known_maps import counterparts
from edgefold.student_building import build_student
from edgefold.students import Student

PLAN = Plan([Project("hidden", 12), Select("ffn", 16), Select("heads", 2)])


@pytest.fixture(scope="module")
def build(make_bert: Callable[..., Any], text_batch: Callable[..., Any]) -> Callable[..., Student]:
    """A student with all that is trained moved away from where it started; a copy, where it has been built before."""
    built: dict[str, Student] = {}

    def make(mode: str, teacher: Any = None, plan: Plan = PLAN) -> Student:
        if teacher is None and mode in built:
            return copy.deepcopy(built[mode])
        batches = [text_batch(8, 9, seed) for seed in range(2)]
        student = build_student(teacher or make_bert(), plan, batches[0], batches, mode, start="pca")
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        if teacher is None:
            built[mode] = copy.deepcopy(student.eval())
        return student.eval()

    return make


def carried(previous: Student | Lineage, teacher: Any, text_batch: Callable[..., Any], mode: str) -> Any:
    lineage = previous if isinstance(previous, Lineage) else Lineage(previous)
    batches = [text_batch(8, 9, seed) for seed in (5, 6)]
    return carry_over(lineage, teacher, batches[0], batches, mode)


@pytest.mark.parametrize("modes", [("weights", "weights"), ("all", "all"), ("projection", "all"), ("all", "weights")])
def test_to_the_same_heads_it_is_the_same_function(
    build: Callable[..., Student],
    make_bert: Callable[..., Any],
    text_batch: Callable[..., Any],
    modes: tuple[str, str],
) -> None:
    """Whatever the other teacher's weights are, for all of them are carried over."""
    before, after = modes
    student = build(before)
    other = make_bert()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    result = carried(student, other, text_batch, after)
    batch = text_batch(seed=9)
    expected, got = (s(**batch).logits for s in (student, result.lineage.student))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert result.share == 1.0
    assert result.lineage.student.mode == after


def test_a_new_head_reads_the_space_of_before(
    build: Callable[..., Student], make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    student, other = build("all"), make_bert(num_labels=5)
    result = carried(student, other, text_batch, "all")
    new, batch = result.lineage.student, text_batch(seed=9)
    bodies = [plain_of(s).bert(**batch).last_hidden_state for s in (student, new)]  # type: ignore[operator]
    torch.testing.assert_close(bodies[1], bodies[0], rtol=1e-12, atol=1e-12)
    assert torch.equal(new.projection("hidden"), student.projection("hidden"))
    assert new(**batch).logits.shape == (4, 5)
    head = dict(new.module.named_parameters())["classifier.bias"]
    torch.testing.assert_close(head, other.classifier.bias)
    assert 0.8 < result.share < 1


def test_weights_that_were_trained_small_have_no_projections(
    build: Callable[..., Student], make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match=r"mode='all' needs projected weights, .* go on in mode='weights'"):
        carried(build("weights"), make_bert(), text_batch, "all")


def test_another_depth_is_refused(
    build: Callable[..., Student], make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    with pytest.raises(InputError, match="give a checkpoint of the same architecture"):
        carried(build("weights"), make_bert(num_hidden_layers=3), text_batch, "weights")


@pytest.mark.parametrize("mode", ["weights", "all"])
def test_a_student_of_a_student_is_held_against_the_teacher(
    build: Callable[..., Student], make_bert: Callable[..., Any], text_batch: Callable[..., Any], mode: str
) -> None:
    """y -> P_2^T P_1^T y at places that the teacher has, in the width of the second student; carried over as well."""
    first = build(mode)
    plan = Plan([Project("hidden", 8), DropLayers(keep=(1,))])
    second = build(mode, plain_of(first), plan)
    lineage = shrink(Lineage(first), second)
    maps = [student.projection("hidden") for student in (first, second)]
    assert maps[0] is not None
    assert maps[1] is not None
    teacher = make_bert()
    places = dict(teacher.named_modules())
    assert second.matches
    for match in second.matches:
        assert match.teacher_module in places
        if match.dimension == "hidden":
            assert match.through is not None
            y = torch.randn(3, 24, dtype=torch.float64)
            mapped = second.mapped(y @ match.through, "hidden")
            torch.testing.assert_close(mapped, y @ maps[0] @ maps[1], rtol=1e-12, atol=1e-12)
    assert second.structure.layer_map == {"bert.encoder.layer.0": "bert.encoder.layer.1"}
    assert [match.teacher_layer for match in second.attentions] == ["bert.encoder.layer.1"]
    result = carried(lineage, teacher, text_batch, mode)
    batch = text_batch(seed=9)
    got, expected = (s(**batch).logits for s in (result.lineage.student, second))
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert [m.teacher_module for m in result.lineage.student.matches] == [m.teacher_module for m in second.matches]


def test_a_second_plan_at_full_size_changes_nothing(
    build: Callable[..., Student], make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    first = build("weights")
    batches = [text_batch(8, 9, seed) for seed in range(2)]
    second = build_student(plain_of(first), Plan([Project("hidden", 12)]), batches[0], batches, start="pca").eval()
    shrink(Lineage(first), second)
    batch = text_batch(seed=9)
    torch.testing.assert_close(second(**batch).logits, first(**batch).logits, rtol=1e-9, atol=1e-9)
    assert {match.module for match in second.matches} == {match.module for match in first.matches}


def test_dimensions_are_found_again_by_the_parameters_along_them() -> None:
    from edgefold.resizing.layouts import Factor

    one = {"w": ((Factor("ffn.1", 8),), (Factor("", 6, ((Factor("heads", 2), Factor("a", 3)),)),))}
    other = {"w": ((Factor("ffn.3", 4),), (Factor("", 3, ((Factor("h", 1), Factor("b", 3)),)),)), "v": ()}
    assert counterparts(one, other) == {"ffn.1": "ffn.3", "heads": "h", "a": "b"}
