"""Tiny random models of many families, each with example inputs: what the laws of any architecture are held against."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from plain_families import PLAIN, Case, token_ids
from torch import Tensor

from edgefold.dimensions import DimensionGraph, trace


def _text(**more: Tensor) -> dict[str, Tensor]:
    ids = token_ids()
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask, **more}


def _transformers(config: str, model: str, inputs: Callable[[], dict[str, Tensor]], **fields: Any) -> Case:
    import transformers

    built = getattr(transformers, model)(getattr(transformers, config)(**fields))
    return built, inputs()


ENCODER = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "vocab_size": 101,
    "max_position_embeddings": 64,
}
DECODER = {**ENCODER, "num_attention_heads": 6, "num_key_value_heads": 3, "use_cache": False}


def bert() -> Case:
    return _transformers("BertConfig", "BertForSequenceClassification", _text, **ENCODER)


def bert_masked_lm() -> Case:
    return _transformers("BertConfig", "BertForMaskedLM", _text, **ENCODER)


def roberta() -> Case:
    return _transformers("RobertaConfig", "RobertaForSequenceClassification", _text, **ENCODER, pad_token_id=1)


def distilbert() -> Case:
    fields = {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40, "vocab_size": 101}
    return _transformers("DistilBertConfig", "DistilBertForSequenceClassification", _text, **fields)


def albert() -> Case:
    fields = {**ENCODER, "embedding_size": 16}
    return _transformers("AlbertConfig", "AlbertForSequenceClassification", _text, **fields)


def electra() -> Case:
    fields = {**ENCODER, "embedding_size": 16}
    return _transformers("ElectraConfig", "ElectraForTokenClassification", _text, **fields)


def gpt2() -> Case:
    fields = {"n_embd": 24, "n_layer": 2, "n_head": 3, "vocab_size": 101, "n_positions": 64, "use_cache": False}
    return _transformers("GPT2Config", "GPT2LMHeadModel", _text, **fields)


def llama() -> Case:
    return _transformers("LlamaConfig", "LlamaForCausalLM", _text, **DECODER)


def mistral() -> Case:
    return _transformers("MistralConfig", "MistralForCausalLM", _text, **DECODER, sliding_window=4)


def t5() -> Case:
    fields = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3, "vocab_size": 101}

    def inputs() -> dict[str, Tensor]:
        return _text(decoder_input_ids=token_ids(3, 5))

    return _transformers("T5Config", "T5ForConditionalGeneration", inputs, **fields, use_cache=False)


def bart() -> Case:
    return _bart("BartConfig", "BartForConditionalGeneration")


def marian() -> Case:
    return _bart("MarianConfig", "MarianMTModel", decoder_start_token_id=1)


def _bart(config: str, name: str, **fields: Any) -> Case:
    """An encoder-decoder whose table is tied to both sides and the head (Lewis et al., 2020)."""
    both = {"layers": 2, "attention_heads": 3, "ffn_dim": 40}
    sizes = {f"{side}_{field}": size for side in ("encoder", "decoder") for field, size in both.items()}
    fields |= {**sizes, "d_model": 24, "vocab_size": 101, "max_position_embeddings": 64, "pad_token_id": 1}

    def inputs() -> dict[str, Tensor]:
        return _text(decoder_input_ids=token_ids(3, 5))

    return _transformers(config, name, inputs, **fields, use_cache=False)


def vit() -> Case:
    fields = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
        "image_size": 16,
        "patch_size": 4,
    }
    return _transformers("ViTConfig", "ViTForImageClassification", _image, **fields)


def resnet() -> Case:
    fields = {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [1, 2], "layer_type": "bottleneck"}
    return _transformers("ResNetConfig", "ResNetForImageClassification", lambda: _image(32), **fields)


def _image(size: int = 16) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))}


FAMILIES: dict[str, Callable[[], Case]] = {
    function.__name__: function
    for function in (
        bert,
        bert_masked_lm,
        roberta,
        distilbert,
        albert,
        electra,
        gpt2,
        llama,
        mistral,
        t5,
        bart,
        marian,
        vit,
        resnet,
        *PLAIN,
    )
}


def make(name: str) -> Case:
    """A family's model in float64 and evaluation mode, its weights large enough for every law to bite."""
    torch.manual_seed(0)
    model, inputs = FAMILIES[name]()
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model, {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}


@cache
def graph_of(name: str) -> DimensionGraph:
    """Of a model of its own, which is as those of `make` are; traced once."""
    return trace(*make(name))
