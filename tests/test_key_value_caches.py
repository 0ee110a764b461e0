"""Language models are traced, shrunk and exported as they come, with the cache of generation asked for."""

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from edgefold.dimensions import trace
from edgefold.errors import InputError
from edgefold.exporters import export_onnx
from edgefold.folding import fold
from edgefold.plans import Plan, Select
from edgefold.student_building import build_student
from edgefold.tracing.key_value_caches import caches_off


def llama() -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "vocab_size": 50}
    return LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=4, num_key_value_heads=2)).eval()


def gpt2() -> nn.Module:
    config = GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=50, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


def t5() -> nn.Module:
    config = T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4)
    return T5ForConditionalGeneration(config).eval()


def inputs(model: nn.Module) -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    decoder = {"decoder_input_ids": ids} if isinstance(model, T5ForConditionalGeneration) else {}
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **decoder}


@pytest.mark.parametrize("make", [llama, gpt2, t5])
def test_a_model_that_asks_for_a_cache_is_traced_shrunk_and_keeps_asking(make: object) -> None:
    model = make()  # type: ignore[operator]
    batch = inputs(model)
    assert trace(model, batch)["vocab"].size == 50
    assert model.config.use_cache is True
    student = build_student(model, Plan([Select("heads", 2)]), batch, [batch])
    plain = fold(student)
    assert plain.config.use_cache is True
    assert torch.allclose(plain(**batch).logits, student(**batch).logits, atol=1e-5)


def test_caches_are_asked_for_again_after_an_error() -> None:
    model = t5()
    with caches_off(model):
        assert not any(module.config.use_cache for module in model.modules() if hasattr(module, "config"))
    with pytest.raises(InputError):
        trace(model, {"input_ids": torch.zeros(2, 7)})
    assert all(module.config.use_cache for module in (model, model.decoder))


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_model_that_asks_for_a_cache_is_exported(make: object, tmp_path: Path) -> None:
    model = make()  # type: ignore[operator]
    artifact = export_onnx(model, inputs(model), tmp_path / "out", tolerance=1e-4)
    assert [output.name for output in artifact.outputs] == ["logits"]
