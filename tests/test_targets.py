"""Targets: one table of what each device's runtime reads; the command line offers the same names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import onnx
import pytest
import torch
from torch import nn

from edgefold.cli.export import Target as CommandTarget
from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.exporters.targets import TARGETS, choose_opset, find_target


def test_the_command_line_offers_every_target() -> None:
    assert get_args(CommandTarget) == tuple(TARGETS)


@pytest.mark.parametrize(
    ("target", "opset"), [("cpu-arm", 20), ("tensorrt", 20), ("tensorrt-8.5", 16), ("tensorrt-8.6", 17)]
)
def test_the_newest_opset_that_a_target_reads_is_taken(target: str, opset: int) -> None:
    assert choose_opset(target) == opset
    assert choose_opset(target, 16) == 16


@pytest.mark.parametrize(
    ("target", "opset", "message"),
    [
        ("jetson", None, "target='jetson' is not known; choose one of cpu-x86, "),
        ("cpu-x86", 26, "opset=26 is not written yet: choose 16 to 25, or leave it out"),
        ("cpu-x86", 13, "opset=13 is too old: torch writes 17 and newer, which edgefold takes down to 16 at most"),
        ("tensorrt-8.6", 20, "tensorrt-8.6 reads opsets up to 17; got opset=20"),
    ],
)
def test_what_cannot_be_exported_or_read_is_refused(target: str, opset: int | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_opset(target, opset)


def test_integers_are_signed_where_they_must_be() -> None:
    assert {name for name, target in TARGETS.items() if target.unsigned} == {"cpu-x86", "cpu-x86-vnni"}
    assert find_target("cpu-x86").weight_bits == 7


@pytest.mark.parametrize(("target", "opset"), [("tensorrt-8.5", 16), ("tensorrt-8.6", 17)])
def test_the_file_is_of_the_opset_of_its_target(
    make_bert: Callable[..., Any], text_batch: Callable[..., Any], tmp_path: Path, target: str, opset: int
) -> None:
    """As a Hugging Face model and as a plain module; both are compared with torch before they are handed out."""
    plain = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU())
    examples: dict[Any, Any] = {make_bert().float(): text_batch(), plain: {"input": torch.randn(2, 8)}}
    for index, (model, inputs) in enumerate(examples.items()):
        artifact = export_onnx(model, inputs, tmp_path / str(index), target=target)
        proto = onnx.load(artifact.model_path)
        onnx.checker.check_model(proto, full_check=True)
        assert {entry.domain: entry.version for entry in proto.opset_import} == {"": opset}
        assert proto.ir_version == 8  # what the parsers of TensorRT 8 were built with
        assert ("LayerNormalization" in {node.op_type for node in proto.graph.node}) is (opset == 17)
        assert (artifact.lineage["opset"], artifact.target) == (opset, target)
