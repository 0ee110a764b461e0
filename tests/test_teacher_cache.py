"""The cache gives back what the teacher said, whatever the padding, and asks the teacher once per example."""

from typing import Any

import torch

from edgefold.teachers.cache import EXAMPLE_IDS, NumberedCollator, NumberedDataset, TeacherCache, TeacherOutputs

LENGTHS = {0: 3, 1: 5, 2: 2, 3: 4}


def batch_of(ids: list[int]) -> dict[str, torch.Tensor]:
    longest = max(LENGTHS[i] for i in ids)
    return {"attention_mask": torch.tensor([[1] * LENGTHS[i] + [0] * (longest - LENGTHS[i]) for i in ids])}


def said_of(ids: list[int]) -> TeacherOutputs:
    """Logits and hidden states that depend on the example alone, with rubbish at padding."""
    longest = max(LENGTHS[i] for i in ids)
    hidden = torch.full((len(ids), longest, 2), 99.0)
    for row, i in enumerate(ids):
        hidden[row, : LENGTHS[i]] = i + torch.arange(LENGTHS[i])[:, None] / 4
    return TeacherOutputs(torch.tensor([[float(i), -float(i)] for i in ids]), {"norm": hidden})


def test_what_is_fetched_is_what_was_said() -> None:
    cache, calls = TeacherCache(2**20), []

    def fetch(ids: list[int]) -> TeacherOutputs:
        return cache.fetch(batch_of(ids), torch.tensor(ids), lambda: calls.append(ids) or said_of(ids))

    for ids in ([0, 1], [2, 3], [1, 2], [3, 0]):
        found, expected, mask = fetch(ids), said_of(ids), batch_of(ids)["attention_mask"].bool()
        assert torch.equal(found.logits, expected.logits)
        assert torch.equal(found.hidden["norm"][mask], expected.hidden["norm"][mask])
        assert found.hidden["norm"].shape == expected.hidden["norm"].shape
    assert calls == [[0, 1], [2, 3]]


def test_a_full_cache_recomputes() -> None:
    cache, calls = TeacherCache(1), []
    for ids in ([0, 1], [2, 3], [2, 3]):
        cache.fetch(batch_of(ids), torch.tensor(ids), lambda ids=ids: calls.append(ids) or said_of(ids))
    assert calls == [[0, 1], [2, 3], [2, 3]]


def test_first_and_later_fetches_have_the_same_precision() -> None:
    cache = TeacherCache(2**20)
    outputs = TeacherOutputs(torch.zeros(1, 2), {"norm": torch.tensor([[[1 / 3, 1e9]] * 3])})
    fetches = [cache.fetch(batch_of([0]), torch.tensor([0]), lambda: outputs).hidden["norm"] for _ in range(2)]
    assert torch.equal(*fetches)
    assert torch.isfinite(fetches[0]).all()


def test_numbers_travel_beside_the_batch() -> None:
    dataset: Any = NumberedDataset([{"x": 1.0}, {"x": 2.0}])
    collate = NumberedCollator(lambda rows: {"x": torch.tensor([row["x"] for row in rows])})
    batch = collate([dataset[1], dataset[0]])
    assert batch[EXAMPLE_IDS].tolist() == [1, 0]
    assert batch["x"].tolist() == [2.0, 1.0]
    assert list(collate([{"x": 1.0}])) == ["x"]
