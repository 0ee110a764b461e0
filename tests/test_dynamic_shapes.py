"""Which axes are dynamic, and examples of other sizes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.exporters.dynamic_shapes import (
    check_dynamic_axes,
    distinct_inputs,
    find_dynamic_axes,
    longest_rows,
    ragged_variants,
    shared_dims,
    without_fixed,
)

TOKENS = {0: "batch", 1: "sequence"}


def test_matrices_of_whole_numbers_have_a_sequence_and_all_else_a_batch() -> None:
    inputs = {
        "ids": torch.ones(2, 5).long(),
        "mask": torch.ones(2, 5).bool(),
        "features": torch.ones(2, 7),
        "pixels": torch.ones(2, 3, 8, 8),
        "labels": torch.ones(2).long(),
    }
    axes = find_dynamic_axes(inputs)
    assert axes == {
        "ids": TOKENS,
        "mask": TOKENS,
        "features": {0: "batch"},
        "pixels": {0: "batch"},
        "labels": {0: "batch"},
    }
    dims = shared_dims(axes)
    assert dims["ids"][0] is dims["pixels"][0]
    assert dims["ids"][1] is dims["mask"][1]


def test_a_table_of_positions_bounds_tokens_and_nothing_else(make_bert: Callable[..., Any]) -> None:
    """Nor where the example is longer, nor where the configuration has a number of which there is no table."""
    model, axes = make_bert(), {"input_ids": TOKENS, "values": {0: "batch", 1: "samples"}}
    limit = model.config.max_position_embeddings
    inputs = {"input_ids": torch.ones(2, 5).long(), "values": torch.ones(2, 7)}
    assert longest_rows(model, inputs, axes) == {"sequence": limit}
    assert longest_rows(model, {**inputs, "input_ids": torch.ones(2, limit + 1).long()}, axes) == {}
    dims = shared_dims(axes, longest=longest_rows(model, inputs, axes))
    assert (dims["input_ids"][1].max, dims["input_ids"][0].max) == (limit, shared_dims(axes)["input_ids"][0].max)
    model.config.max_position_embeddings = limit - 1
    assert longest_rows(model, inputs, axes) == {}


def test_a_model_with_such_a_table_is_traced_once_and_runs_at_its_full_length(
    make_bert: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgefold.exporters import onnx as module

    model, convert, calls = make_bert().float(), module._convert_hugging_face, []
    monkeypatch.setattr(module, "_convert_hugging_face", lambda *given: calls.append(1) or convert(*given))
    ids = torch.randint(1, 30, (2, 5))
    artifact = export_onnx(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, tmp_path / "onnx")
    assert len(calls) == 1
    longest = torch.randint(1, 30, (1, model.config.max_position_embeddings))
    batch = {"input_ids": longest, "attention_mask": torch.ones_like(longest)}
    session = onnxruntime.InferenceSession(artifact.model_path)
    (found, *_) = session.run(None, {name: value.numpy() for name, value in batch.items()})
    torch.testing.assert_close(torch.from_numpy(found), model(**batch).logits.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("length", [1, 2, 9])
def test_distinct_inputs_share_no_memory_and_have_no_axis_of_one(rows: int, length: int) -> None:
    one = torch.arange(rows * length).reshape(rows, length)
    inputs = {"ids": one, "mask": one}
    distinct = distinct_inputs(inputs, find_dynamic_axes(inputs))
    assert distinct["ids"].data_ptr() != distinct["mask"].data_ptr() != one.data_ptr()
    for value in distinct.values():
        assert value.shape == (max(rows, 2), max(length, 2))
        assert torch.equal(value[:rows, :length], one)


@pytest.mark.parametrize(("rows", "length"), [(2, 2), (2, 6), (4, 9)])
def test_variants_are_of_other_sizes_and_one_is_padded(rows: int, length: int) -> None:
    inputs = {"ids": torch.ones(rows, length).long(), "attention_mask": torch.ones(rows, length).long()}
    same, *others = ragged_variants(inputs, find_dynamic_axes(inputs))
    assert all(torch.equal(same[name], value) for name, value in inputs.items())
    assert {len(variant["ids"]) for variant in others} == {1, 3}
    for variant in others:
        assert variant["ids"].shape == variant["attention_mask"].shape
        assert variant["attention_mask"].sum(1).min() > 0  # a row of padding alone would be NaN in softmax
    assert (others[1]["attention_mask"] == 0).any() == (length > 3)
    assert (inputs["attention_mask"] == 1).all()


def test_boxes_of_words_are_as_many_as_the_words() -> None:
    ids, boxes = torch.zeros(3, 8, dtype=torch.long), torch.zeros(3, 8, 4, dtype=torch.long)
    found = find_dynamic_axes({"input_ids": ids, "bbox": boxes, "labels": boxes.movedim(1, 2)})
    assert found == {"input_ids": {0: "batch", 1: "sequence"}, "bbox": found["input_ids"], "labels": {0: "batch"}}


def test_vectors_beside_a_mask_are_as_many_as_it_has_places() -> None:
    inputs = {"x": torch.ones(2, 5, 16), "padding": torch.ones(2, 5).bool(), "pixels": torch.ones(2, 5, 8, 8)}
    assert find_dynamic_axes(inputs) == {"x": TOKENS, "padding": TOKENS, "pixels": {0: "batch"}}


def test_an_input_without_a_batch_is_refused() -> None:
    with pytest.raises(InputError, match="step is a scalar"):
        find_dynamic_axes({"step": torch.tensor(1)})


def test_axes_of_ones_own_have_other_sizes_in_the_variants() -> None:
    inputs = {"input_ids": torch.ones(2, 4, 9).long(), "attention_mask": torch.ones(2, 4, 9).long()}
    axes = {name: {0: "batch", 1: "choices", 2: "sequence"} for name in inputs}
    check_dynamic_axes(inputs, axes)
    _, short, tall = ragged_variants(inputs, axes)
    assert {tuple(value.shape) for value in short.values()} == {(1, 2, 4)}
    assert {tuple(value.shape) for value in tall.values()} == {(3, 3, 8)}
    assert tall["attention_mask"].sum((0, 1)).tolist() == [9] * 4 + [6] * 4  # of the second row, half of every choice


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({}, "of audio, of shape \\(2, 7\\), are None; give each input a dict of axes below 2"),
        ({"audio": {1: "samples"}}, '0 to "batch"'),
        ({"audio": {0: "batch", 2: "samples"}}, "axes below 2"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: dict[str, dict[int, str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_dynamic_axes({"audio": torch.ones(2, 7)}, axes)


class Placed(nn.Module):
    """As many positions as the example has tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(20, 4), nn.Parameter(torch.randn(1, 6, 4))

    def forward(self, ids: Tensor) -> Tensor:
        assert ids.shape[1] == self.places.shape[1]
        return (self.table(ids) + self.places).mean(1)


def test_a_length_that_the_model_has_fixed_is_no_dynamic_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"ids": torch.randint(20, (2, 6))}
    assert without_fixed(Placed(), inputs, find_dynamic_axes(inputs)) == {"ids": {0: "batch"}}
    assert "no other size of sequence than 6" in caplog.text
    artifact = export_onnx(Placed().eval(), inputs, tmp_path / "out")
    assert artifact.inputs[0].shape == ("batch", 6)


def test_what_runs_at_other_lengths_keeps_them(caplog: pytest.LogCaptureFixture) -> None:
    model, inputs = nn.Sequential(nn.Embedding(20, 4)), {"input": torch.randint(20, (2, 6))}
    axes = find_dynamic_axes(inputs)
    assert without_fixed(model, inputs, axes) == axes
    assert not caplog.text


def test_where_the_model_does_not_run_at_all_nothing_is_said_of_axes(caplog: pytest.LogCaptureFixture) -> None:
    inputs = {"ids": torch.randint(20, (2, 9))}
    axes = find_dynamic_axes(inputs)
    assert without_fixed(Placed(), inputs, axes) == axes
    assert not caplog.text


def test_a_length_that_has_a_least_one_stays_dynamic() -> None:
    model = nn.Sequential(nn.Embedding(20, 8), nn.Conv1d(6, 6, 5))  # of eight numbers for each of six tokens

    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.windows = nn.Embedding(20, 4), nn.Conv1d(4, 4, 5)

        def forward(self, ids: Tensor) -> Tensor:
            return self.windows(self.table(ids).transpose(1, 2))

    inputs = {"ids": torch.randint(20, (2, 6))}
    assert without_fixed(Windows(), inputs, find_dynamic_axes(inputs)) == find_dynamic_axes(inputs)
    inputs = {"input": inputs["ids"]}
    assert without_fixed(model, inputs, find_dynamic_axes(inputs)) == {"input": {0: "batch"}}
