"""Profiles follow the names of dimensions: equal names are equal sizes, and sums add up."""

import json
from pathlib import Path
from typing import Any

import pytest

from edgefold.artifacts import TensorSpec
from edgefold.errors import InputError
from edgefold.exporters.tensorrt.profiles import make_profiles, share_ranges

TOKENS = [TensorSpec(name=name, dtype="int64", shape=("batch", "sequence")) for name in ("input_ids", "token_types")]
CACHE = TensorSpec(name="past.key", dtype="float32", shape=("batch", 4, "past", 8))
MASK = TensorSpec(name="mask", dtype="int64", shape=("batch", "past + sequence"))


def test_defaults(tmp_path: Path) -> None:
    (shapes,) = make_profiles(TOKENS, (), tmp_path)
    assert shapes == dict.fromkeys(("input_ids", "token_types"), ((1, 1), (1, 128), (8, 512)))


def test_positions_limit_the_defaults_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 64}))
    assert make_profiles(TOKENS, (), tmp_path)[0]["input_ids"] == ((1, 1), (1, 64), (8, 64))
    asked = [{"sequence": (2, 16, 512)}]
    assert make_profiles(TOKENS, asked, tmp_path)[0]["input_ids"] == ((1, 2), (1, 16), (8, 512))
    (tmp_path / "config.json").write_text("[]")
    assert make_profiles(TOKENS, (), tmp_path)[0]["input_ids"][2] == (8, 512)


def test_sums_add_up_and_several_profiles_stand_side_by_side(tmp_path: Path) -> None:
    asked: list[Any] = [{"batch": (1, 2, 3), "past": (0, 10, 20), "sequence": (1, 1, 1)}, {}]
    first, second = make_profiles([TOKENS[0], CACHE, MASK], asked, tmp_path)
    assert first == {
        "input_ids": ((1, 1), (2, 1), (3, 1)),
        "past.key": ((1, 4, 0, 8), (2, 4, 10, 8), (3, 4, 20, 8)),
        "mask": ((1, 1), (2, 11), (3, 21)),
    }
    assert second["mask"] == ((1, 1), (1, 256), (8, 1024))


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"rows": (1, 2, 3)}, "There is no dynamic dimension 'rows'; this model has batch, sequence."),
        ({"batch": (2, 1, 3)}, "The range of batch is 2:1:3; give least:usual:largest"),
        ({"batch": (1, 2)}, "The range of batch is 1:2; give"),
        ({"batch": (-1, 2, 3)}, "The range of batch is -1:2:3"),
        ({"batch": (1, 2, 2.5)}, "The range of batch is 1:2:2.5"),
    ],
)
def test_ranges_that_do_not_fit(asked: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        make_profiles(TOKENS, [asked], tmp_path)


def test_a_dimension_without_a_default_needs_a_range(tmp_path: Path) -> None:
    frames = [TensorSpec(name="x", dtype="float32", shape=("batch", "frames"))]
    with pytest.raises(InputError, match=r"Between which sizes is frames\? Give a range, as in frames=1:64:256"):
        make_profiles(frames, (), tmp_path)
    assert make_profiles(frames, [{"frames": (1, 5, 9)}], tmp_path)[0]["x"] == ((1, 1), (1, 5), (8, 9))


def test_each_graph_has_the_ranges_of_its_own_dimensions_and_what_none_has_is_refused(tmp_path: Path) -> None:
    graphs = {"encoder": TOKENS, "decoder": [CACHE]}
    shared = share_ranges([{"batch": (1, 2, 4), "past": (0, 8, 16)}], graphs)
    assert shared == {"encoder": [{"batch": (1, 2, 4)}], "decoder": [{"batch": (1, 2, 4), "past": (0, 8, 16)}]}
    assert make_profiles(TOKENS, shared["encoder"], tmp_path)[0]["input_ids"][2][0] == 4
    unknown = share_ranges([{"sequance": (1, 2, 4)}], graphs)
    with pytest.raises(InputError, match="There is no dynamic dimension 'sequance'"):
        make_profiles(TOKENS, unknown["encoder"], tmp_path)
