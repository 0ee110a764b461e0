"""generate: what a cache keeps is what was read; rows of any lengths; an end ends its row. Without torch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from edgefold.artifacts import Generation, TensorSpec
from edgefold.errors import InputError
from edgefold.runtimes import generate
from edgefold.runtimes.generation import CausalSteps, empty_cache, pad_left
from edgefold.runtimes.greedy_search import search
from edgefold.runtimes.sessions import check_feeds

VOCABULARY = 11
SETTINGS = Generation(layers=1, end_ids=(0,), pad_id=5)


class Counter:
    """The likeliest token is the sum of a row's tokens, weighted by their positions, modulo the vocabulary."""

    label = "counter"
    generation: Generation | None = SETTINGS
    inputs = (
        TensorSpec(name="input_ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "past + sequence")),
        TensorSpec(name="position_ids", dtype="int64", shape=("batch", "sequence")),
        TensorSpec(name="past_key_values.0.key", dtype="float32", shape=("batch", 1, "past", 2)),
    )
    outputs: tuple[TensorSpec, ...] = ()
    widths: list[int]

    def __init__(self) -> None:
        self.widths = []

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        check_feeds(self.inputs, feeds)
        self.widths.append(feeds["input_ids"].shape[1])
        new = np.stack([feeds["input_ids"], feeds["position_ids"]], -1)[:, None].astype(np.float32)
        kept = np.concatenate([feeds["past_key_values.0.key"], new], axis=2)
        sums = ((kept[:, 0, :, 0] * (kept[:, 0, :, 1] + 1)) * feeds["attention_mask"]).cumsum(1)
        likeliest = sums[:, -new.shape[2] :].astype(int) % VOCABULARY
        return {"logits": np.eye(VOCABULARY, dtype=np.float32)[likeliest], "present.0.key": kept}


def continued(prompt: list[int], count: int) -> list[int]:
    """The law written out."""
    row = list(prompt)
    for _ in range(count):
        row.append(sum(token * (place + 1) for place, token in enumerate(row)) % VOCABULARY)
    return row[len(prompt) :]


PROMPTS = [[5, 1, 4], [7], [2, 9, 9, 1, 6]]


def test_rows_of_any_lengths_go_on_as_each_would_alone() -> None:
    session: Any = Counter()
    found = generate(session, PROMPTS, 6, end_ids=())
    assert [row.tolist() for row in found] == [continued(prompt, 6) for prompt in PROMPTS]
    assert session.widths == [5, 1, 1, 1, 1, 1]


def test_a_row_that_comes_to_its_largest_length_ends_as_it_must() -> None:
    def step(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.eye(VOCABULARY)[[3, 3]]

    settings = Generation(layers=1, end_ids=(0,), last_id=0)
    found = search(step, np.ones((2, 2), np.int64), settings, 4)
    assert [row.tolist() for row in found] == [[3, 3, 3, 0]] * 2


def test_an_end_ends_its_row_and_the_search_when_all_have_ended() -> None:
    session: Any = Counter()
    expected = [continued(prompt, 40) for prompt in PROMPTS]
    ends = [row.index(0) + 1 for row in expected]
    found = generate(session, PROMPTS, 40)
    assert [row.tolist() for row in found] == [row[:end] for row, end in zip(expected, ends, strict=True)]
    assert len(session.widths) == max(ends)


def test_the_settings_may_forbid_tokens_always_or_at_first() -> None:
    def step(ids: Any) -> Any:
        return np.tile(np.arange(5.0), (len(ids), 1))

    settings = Generation(layers=0, never_ids=(4, 50_000), never_first_ids=(3, 5))  # a vocabulary of five, once larger
    (row,) = search(step, np.ones((1, 2), np.int64), settings, 3)
    assert row.tolist() == [2, 3, 3]


def test_the_cache_is_what_went_in() -> None:
    session: Any = Counter()
    steps = CausalSteps(session, np.ones((2, 3), np.int64))
    assert steps.cache["past_key_values.0.key"].shape == (2, 1, 0, 2)
    steps.advance(np.array([[1, 2], [3, 4]]))
    steps.advance(np.array([[5], [6]]))
    np.testing.assert_array_equal(steps.cache["past_key_values.0.key"][:, 0, :, 0], [[1, 2, 5], [3, 4, 6]])
    np.testing.assert_array_equal(steps.cache["past_key_values.0.key"][:, 0, :, 1], [[0, 1, 2], [0, 1, 2]])


def test_padding_is_on_the_left_and_masked() -> None:
    ids, mask = pad_left([[1, 2], [3]], pad_id=9)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2], [9, 3]], [[1, 1], [0, 1]])


def test_an_empty_cache_has_no_positions() -> None:
    specs = [
        *Counter.inputs,
        TensorSpec(name="past_key_values.0.value", dtype="float32", shape=("batch", 4, "past", 8)),
    ]
    assert {name: value.shape for name, value in empty_cache(specs, 3).items()} == {
        "past_key_values.0.key": (3, 1, 0, 2),
        "past_key_values.0.value": (3, 4, 0, 8),
    }


@pytest.mark.parametrize(
    ("prompts", "count", "message"),
    [
        ([], 3, "There is no prompt"),
        ([[1], []], 3, r"Prompt 1 must be a row of at least one token id; got shape \(0,\)"),
        ([[1.5]], 3, r"Prompt 0 must be a row .* got shape \(1,\) of float64"),
        ([[1]], 0, "max_new_tokens=0 must be at least 1"),
    ],
)
def test_what_is_no_prompt_is_refused(prompts: Any, count: int, message: str) -> None:
    session: Any = Counter()
    with pytest.raises(InputError, match=message):
        generate(session, prompts, count)


def test_a_session_without_a_cache_is_refused() -> None:
    session: Any = Counter()
    session.generation = None
    with pytest.raises(InputError, match="counter passes no keys and values from step to step"):
        generate(session, [[1]], 3)
