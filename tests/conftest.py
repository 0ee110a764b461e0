"""Tiny models and inputs that the tests share."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def make_bert() -> Callable[..., Any]:
    """A factory of small random BERT classifiers in float64 and evaluation mode."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    def make(**fields: Any) -> Any:
        torch.manual_seed(0)
        sizes = {
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 40,
            "vocab_size": 101,
            "max_position_embeddings": 64,
        }
        model = BertForSequenceClassification(BertConfig(**{**sizes, **fields})).double().eval()
        with torch.no_grad():  # a fresh model is nearly linear: make every law work on large values
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
        return model

    return make


@pytest.fixture
def text_batch() -> Callable[..., Any]:
    """A factory of ragged token batches: ids and a mask with some padding."""
    import torch

    def make(rows: int = 4, length: int = 9, seed: int = 0) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(seed)
        mask = torch.ones(rows, length, dtype=torch.long)
        for row in range(rows):
            mask[row, length - row % 4 :] = 0 if row % 4 else 1
        return {"input_ids": torch.randint(0, 100, (rows, length), generator=generator), "attention_mask": mask}

    return make
