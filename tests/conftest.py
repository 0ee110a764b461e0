"""Tiny models and inputs that the tests share."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from collections.abc import Callable
from pathlib import Path
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


@pytest.fixture
def make_artifact() -> Callable[..., Any]:
    """A factory of artifacts made without torch: logits = ids * mask @ weight, (batch, sequence) -> (batch, 3)."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    from edgefold.artifacts import TensorSpec, write_artifact

    def make(folder: Path, external: bool = False, sequence: int = 4) -> Any:
        names = ("input_ids", "attention_mask")
        weight = np.random.default_rng(0).normal(size=(sequence, 3)).astype(np.float32)
        nodes = [
            helper.make_node("Mul", list(names), ["kept"]),
            helper.make_node("Cast", ["kept"], ["values"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["values", "weight"], ["logits"]),
        ]
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", sequence]) for name in names],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(weight, "weight")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        folder.mkdir(parents=True)
        aside: dict[str, Any] = (
            {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 0} if external else {}
        )
        save(model, folder / "model.onnx", **aside)
        return write_artifact(
            folder,
            format="onnx",
            precision="fp32",
            target=None,
            model_file="model.onnx",
            inputs=[TensorSpec(name=name, dtype="int64", shape=("batch", sequence)) for name in names],
            outputs=[TensorSpec(name="logits", dtype="float32", shape=("batch", 3))],
            lineage={"teacher": "none", "plan": [1, 2.5, None]},
        )

    return make


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny teacher, its data and a recipe."""
    import csv

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("job")
    words = ["[PAD]", "[UNK]", *(f"word{letter}" for letter in "abcdefghijklmn")]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder / "teacher")
    sizes: dict[str, Any] = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
    }
    config = BertConfig(vocab_size=len(words), max_position_embeddings=32, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder / "teacher")
    for split, count in (("train", 48), ("validation", 8), ("test", 8)):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            texts = [" ".join(words[2 + (i * k) % 14] for k in range(3, 9)) for i in range(count)]
            csv.writer(file).writerows([("text", "label"), *((text, i % 2) for i, text in enumerate(texts))])
    (folder / "recipe.yaml").write_text(
        "teacher: teacher\n"
        "data: {train: train.csv, validation: validation.csv, test: test.csv, max_length: 16}\n"
        "plan: [project: {dimension: hidden, size: 12}, select: {dimension: ffn, size: 16}, "
        "select: {dimension: heads, size: 2}]\n"
        "training: {epochs: 1, batch_size: 16, threads: 1}\n"
        "calibration: {samples: 32}\n"
    )
    return folder
