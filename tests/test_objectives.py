"""Objectives refuse what cannot be learned from, and know what they need."""

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from edgefold.distillation import Contrast, Objective
from edgefold.distillation.pairs import check_teacher
from edgefold.errors import InputError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"logits": -1.0}, r"Objective\(logits=-1.0\) must be a finite number of at least 0"),
        ({"l1": float("nan")}, r"Objective\(l1=nan\) must be a finite"),
        ({"temperature": 0.0}, r"Objective\(temperature=0\) must be above 0"),
        (
            {"task": 0.0, "logits": 0.0, "hidden": 0.0},
            "nothing to learn from: give one of task, logits, hidden, att",
        ),
        ({"cosine": -1}, r"Objective\(cosine=-1\) must be a finite number"),
        ({"layer_map": "first"}, r"layer_map='first'\) is not known; choose one of auto, uniform, last, or give pairs"),
        ({"layer_map": [(0, -1)]}, r"layer_map=.* holds \(0, -1\); a pair is \(student layer, teacher layer\)"),
        ({"relation_heads": 0}, r"Objective\(relation_heads=0\) must be at least 1"),
    ],
)
def test_bad_objectives_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Objective(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positives": "label"}, r"positives='label'\) is not known; choose one of teacher, dropout, labels"),
        ({"pooling": "max"}, r"pooling='max'\) is not known; choose one of mean, cls, last"),
        ({"temperature": 0.0}, r"temperature=0\.0\) must be above 0"),
    ],
)
def test_bad_contrasts_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Contrast(**fields)


def test_objectives_know_what_they_need() -> None:
    alone = {"logits": 0.0, "hidden": 0.0}
    assert Objective(**alone).needs_teacher is False
    assert Objective(**alone, relations=1.0).needs_teacher is True
    assert Objective(**alone, contrastive=1.0).needs_teacher is True
    assert Objective(**alone, contrastive=1.0, contrast=Contrast("labels")).needs_teacher is False
    assert Objective(contrastive=1.0, contrast=Contrast("dropout")).views == 2
    assert Objective(contrast=Contrast("dropout")).views == 1


def test_a_teacher_without_attention_maps_is_refused_before_it_has_a_student(make_bert: Callable[..., Any]) -> None:
    check_teacher(Objective(attention=1), make_bert())
    check_teacher(Objective(hidden=1), nn.Linear(2, 2))
    with pytest.raises(InputError, match=r"Objective\(attention > 0\) needs Hugging Face models"):
        check_teacher(Objective(attention=1), nn.Linear(2, 2))


def test_the_first_arguments_stay_where_they_were() -> None:
    assert Objective(0.1, 0.2, 0.3, 4.0, 0.5, 0.6) == Objective(
        task=0.1, logits=0.2, hidden=0.3, temperature=4.0, l1=0.5, l2=0.6
    )
