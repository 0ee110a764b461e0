"""The layout that optimum opens: configuration and tokenizer beside model.onnx."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.exporters.optimum_layout import write_optimum_layout

Make = Callable[..., Any]


def test_an_exported_transformer_has_its_configuration_and_tokenizer_in_the_artifact(
    make_bert: Make, text_batch: Make, job: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoTokenizer

    bert = make_bert().float()
    artifact = export_onnx(bert, text_batch(), tmp_path / "out", tokenizer=job / "teacher")
    config = AutoConfig.from_pretrained(artifact.folder)
    assert (config.model_type, config.architectures) == ("bert", ["BertForSequenceClassification"])
    assert config.hidden_size == bert.config.hidden_size
    expected = AutoTokenizer.from_pretrained(job / "teacher")("worda wordb").input_ids
    assert AutoTokenizer.from_pretrained(artifact.folder)("worda wordb").input_ids == expected
    assert {"model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"} <= artifact.files.keys()
    assert not list(artifact.folder.glob("*_data"))


def test_a_tokenizer_writes_itself(make_bert: Make, job: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job / "teacher")
    write_optimum_layout(tmp_path, make_bert(), tokenizer)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_labels_are_kept_and_the_model_is_not_changed(make_bert: Make, tmp_path: Path) -> None:
    bert = make_bert(id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    bert.config.architectures = None
    write_optimum_layout(tmp_path, bert)
    assert bert.config.architectures is None
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good"}
    assert config["architectures"] == ["BertForSequenceClassification"]


def test_a_plain_module_has_the_model_alone(tmp_path: Path) -> None:
    artifact = export_onnx(nn.Linear(4, 2), {"input": torch.randn(2, 4)}, tmp_path / "out")
    assert sorted(path.name for path in artifact.folder.iterdir()) == ["artifact.json", "model.onnx"]


def test_a_folder_without_a_tokenizer_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds none of tokenizer\.json, .* give a tokenizer or its folder"):
        export_onnx(nn.Linear(4, 2), {"input": torch.randn(2, 4)}, tmp_path / "out", tokenizer=tmp_path / "empty")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
