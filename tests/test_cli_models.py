"""open_model: a checkpoint is opened whole, as the class that it was saved as, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, DPRConfig, DPRContextEncoder, T5Config, T5EncoderModel

from edgefold.cli.models import open_model
from edgefold.errors import InputError

SIZES = {"vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3}


def bert() -> Any:
    return BertModel(BertConfig(**SIZES, intermediate_size=40))


def dpr() -> Any:
    return DPRContextEncoder(DPRConfig(**SIZES, intermediate_size=40))


def t5_encoder() -> Any:
    return T5EncoderModel(T5Config(vocab_size=101, d_model=24, d_kv=8, d_ff=40, num_layers=1, num_heads=3))


@pytest.mark.parametrize("make", [bert, dpr, t5_encoder])
def test_what_no_task_names_is_opened_as_its_own_class(make: Any, tmp_path: Path) -> None:
    """AutoModel would take another class for some of them, with random weights."""
    model = make()
    model.save_pretrained(tmp_path)
    opened = open_model(tmp_path)
    assert type(opened) is type(model)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), opened.parameters(), strict=True))


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["pooler.dense.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        InputError, match=r"lacks 1 weights of a BertModel, which would be random: pooler.dense.weight\."
    ):
        open_model(tmp_path)
