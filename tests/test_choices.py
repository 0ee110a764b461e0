"""What is worth a choice, and how sizes become a plan that builds."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from edgefold.budget.blank_students import BlankStudents
from edgefold.budget.choices import Choices, distinct, find_choices, random_sizes, to_plan
from edgefold.dimensions import trace
from edgefold.plans import DropLayers, Plan, Project, Select


def test_hidden_neurons_and_whole_heads_are_worth_a_choice(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    found = {each.dimension: each for each in find_choices(trace(make_bert(), text_batch()))}
    assert found.keys() == {"hidden", "ffn.0", "ffn.1", "heads.0", "heads.1"}
    assert all(size % 8 == 0 for name, each in found.items() if "heads" not in name for size in each.sizes)
    assert all(each.sizes == tuple(sorted(set(each.sizes))) for each in found.values())


def test_sizes_become_a_plan_of_few_steps_that_builds(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    teacher, inputs = make_bert(), text_batch()
    graph = trace(teacher, inputs)
    choices, students = find_choices(graph), BlankStudents(teacher, inputs, graph=graph)
    full = {each.dimension: each.sizes[-1] for each in choices}
    assert to_plan(choices, full).steps == []
    third = {**full, "hidden": 16, "ffn.0": 24, "ffn.1": 24, "heads.0": 1}
    assert to_plan(choices, third) == Plan([Project("hidden", 16), Select("heads.0", 1), Select("ffn", 24)])
    assert to_plan(choices, full, [DropLayers(every=2)]) == Plan([DropLayers(every=2)])
    for sizes in islice(random_sizes(choices, seed=3), 4):
        students.build(to_plan(choices, sizes))


def test_random_sizes_are_those_of_their_seed_and_both_alike_and_uneven(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any]
) -> None:
    choices = find_choices(trace(make_bert(), text_batch()))
    first, second, other = (list(islice(random_sizes(choices, seed), 10)) for seed in (1, 1, 2))
    assert first == second != other
    assert all(sizes["ffn.0"] == sizes["ffn.1"] for sizes in first[::2])
    assert any(sizes["ffn.0"] != sizes["ffn.1"] for sizes in first[1::2])
    plans = distinct((to_plan(choices, sizes) for sizes in random_sizes(choices, 5)), 6)
    assert len(plans) == len({str(plan) for plan in plans}) == 6


def test_no_more_plans_are_waited_for_than_there_are() -> None:
    choices = [Choices("a", "permutation", (8, 16)), Choices("b", "linear", (4, 8))]
    plans = distinct((to_plan(choices, sizes) for sizes in random_sizes(choices, 0)), 12)
    assert len(plans) == 4
    assert len({str(plan.to_dicts()) for plan in plans}) == 4
