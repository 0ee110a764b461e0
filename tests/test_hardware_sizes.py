"""Sizes round up to multiples, and a plan with odd ones is built with a warning."""

import logging
from collections.abc import Callable
from typing import Any

import pytest

from edgefold.errors import InputError
from edgefold.hardware_sizes import round_up, warn_of_odd_sizes
from edgefold.plans import LowRank, Plan, Project, Select
from edgefold.student_building import build_student


@pytest.mark.parametrize(("size", "multiple", "expected"), [(1, 8, 8), (8, 8, 8), (129, 8, 136), (33, 32, 64)])
def test_round_up_is_the_next_multiple(size: int, multiple: int, expected: int) -> None:
    assert round_up(size, multiple) == expected


def test_round_up_refuses_what_has_no_multiple() -> None:
    with pytest.raises(InputError, match=r"round_up\(size=0, multiple=8\) takes whole numbers of at least 1"):
        round_up(0)


def test_odd_sizes_are_warned_of_but_built(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    plan = Plan([Project("hidden", 16), Select("ffn", 20), Select("heads", 2), LowRank("word_embeddings", 5)])
    with caplog.at_level(logging.WARNING, "edgefold"):
        student = build_student(make_bert(), plan, text_batch(), [text_batch(8)])
    assert student.structure.sizes["ffn.0"] == (40, 20)
    assert [record.getMessage() for record in caplog.records] == [
        "The plan gives ffn.0, ffn.1 the size 20, no multiple of 8; 24 is likely as fast.",
        "The plan gives bert.embeddings.word_embeddings the size 5, no multiple of 8; 8 is likely as fast.",
    ]


def test_many_odd_sizes_are_one_warning_and_none_is_given_where_only_the_full_size_is_a_multiple(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "edgefold"):
        warn_of_odd_sizes({f"channels.{i}": (64, 20) for i in range(34)} | {"groups": (8, 4), "units": (24, 18)})
    assert [record.getMessage() for record in caplog.records] == [
        "The plan gives channels.0, channels.1 and 32 more the size 20, no multiple of 8; 24 is likely as fast.",
    ]
