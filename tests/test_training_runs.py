"""use_threads: as asked, else as the environment says, else one for each core."""

import os
from collections.abc import Iterator

import pytest
import torch

from edgefold.jobs.training_runs import use_threads


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("asked", "said", "used"),
    [(3, "1", 3), (None, "1", 1), (None, "2,1", None), (None, "", None)],
    ids=["asked", "environment", "nested", "neither"],
)
def test_threads_are_as_asked_then_as_the_environment_says(
    asked: int | None, said: str, used: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    wanted = used or len(os.sched_getaffinity(0))
    assert use_threads(asked) == wanted == torch.get_num_threads()
