"""What Gates takes, what it refuses, and the target that it sets."""

import re
from typing import Any

import pytest

from edgefold import Gates
from edgefold.errors import InputError


def test_the_target_falls_in_a_line_and_stays() -> None:
    gates = Gates("ffn", keep=0.4, warmup=0.5)
    assert [gates.target(progress) for progress in (0, 0.25, 0.5, 1)] == pytest.approx([1, 0.7, 0.4, 0.4])
    assert Gates("ffn", keep=0.4, warmup=0).target(0) == 0.4
    assert gates.where == ("ffn",)
    assert Gates(["ffn", "heads.*"], keep=0.4).where == ("ffn", "heads.*")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"where": []}, "Gates(where=()) must name at least one dimension, such as 'ffn' or 'heads'."),
        ({"keep": 1.0}, "Gates(keep=1.0) must be a share between 0 and 1, such as 0.4."),
        ({"keep": True}, "Gates(keep=True) must be a share"),
        ({"warmup": 0.8}, "Gates(warmup=0.8, settle=0.7) must be shares of training with 0 <= warmup <= settle <= 1"),
        ({"warmup": 0, "settle": 0}, "and settle above 0."),
        ({"learning_rate": 0}, "Gates(learning_rate=0) must be a finite number above 0"),
        ({"multiplier_rate": float("nan")}, "Gates(multiplier_rate=nan) must be a finite number above 0"),
        ({"multiple_of": 0}, "Gates(multiple_of=0) must be a whole number of at least 1, below 2**32."),
        ({"seed": -1}, "Gates(seed=-1) must be a whole number of at least 0, below 2**32."),
    ],
)
def test_bad_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        Gates(**{"where": "ffn", "keep": 0.4, **fields})
