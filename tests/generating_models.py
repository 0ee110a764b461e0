"""Small random models that generate: causal (grouped queries, learned positions), encoder-decoders (text, speech)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

VOCABULARY = 61
SMALL = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 3}
    return noisy(LlamaForCausalLM, LlamaConfig(**SMALL, **sizes, intermediate_size=40, max_position_embeddings=64))


def gpt2() -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return noisy(GPT2LMHeadModel, GPT2Config(**SMALL, n_embd=24, n_layer=2, n_head=3, n_positions=64))


def t5() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    sizes = {"d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3}
    fields = {**SMALL, "eos_token_id": 1, "decoder_start_token_id": 0}
    del fields["bos_token_id"]
    return noisy(T5ForConditionalGeneration, T5Config(**fields, **sizes))


def whisper() -> Any:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    sizes = {"d_model": 24, "encoder_layers": 1, "decoder_layers": 2, "encoder_ffn_dim": 40, "decoder_ffn_dim": 40}
    heads = {"encoder_attention_heads": 3, "decoder_attention_heads": 3}
    lengths = {"max_source_positions": 20, "max_target_positions": 32, "num_mel_bins": 8}
    config = WhisperConfig(**SMALL, **sizes, **heads, **lengths, decoder_start_token_id=3)
    model = noisy(WhisperForConditionalGeneration, config)
    model.generation_config.suppress_tokens = [5, 6]
    model.generation_config.begin_suppress_tokens = [2]
    return model


BART = {
    **{"d_model": 24, "max_position_embeddings": 40, "encoder_layers": 1, "decoder_layers": 2},
    **{f"{side}_attention_heads": 3 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 40 for side in ("encoder", "decoder")},
}
"""Sizes of the family of BART (Lewis et al., 2020)."""


def marian() -> Any:
    from transformers import MarianConfig, MarianMTModel

    ids = {"vocab_size": VOCABULARY, "pad_token_id": 60, "eos_token_id": 0, "decoder_start_token_id": 60}
    model = noisy(MarianMTModel, MarianConfig(**ids, **BART, bos_token_id=None, scale_embedding=True))
    model.generation_config.bad_words_ids = [[60], [1]]
    model.generation_config.forced_eos_token_id = 0
    return model


def bart() -> Any:
    from transformers import BartConfig, BartForConditionalGeneration

    return _begun_and_ended(noisy(BartForConditionalGeneration, BartConfig(**_BART_IDS, **BART)))


_BART_IDS = {**SMALL, "bos_token_id": 0, "pad_token_id": 1, "decoder_start_token_id": 2}


def _begun_and_ended(model: Any) -> Any:
    """With a first token that is given and a last one that is."""
    model.generation_config.forced_bos_token_id = 7
    model.generation_config.forced_eos_token_id = 2
    return model


MODELS: dict[str, Callable[[], Any]] = {f.__name__: f for f in (llama, gpt2, t5, whisper)}


def texts(rows: int = 3, length: int = 11, left: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Ids and mask of ragged rows: each three tokens shorter than the one before."""
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([[length - 3 * row] for row in range(rows)])
    places = torch.arange(length).repeat(rows, 1)
    mask = (places >= length - lengths if left else places < lengths).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def features(rows: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Log-mel features: (rows, 8, 40)."""
    return {"input_features": torch.randn(rows, 8, 40, generator=torch.Generator().manual_seed(seed))}


def noisy(model_class: Any, config: Any) -> Any:
    """In float32 and evaluation mode, with weights so large that tokens differ."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model
