"""Layouts of caches: what one run of the model leaves in it, or a refusal that says what the model has instead."""

from pathlib import Path

import generating_models as models
import pytest
import torch
from torch import Tensor, nn

from edgefold import DropLayers, Plan, Select, build_student, fold, load_student, save_student
from edgefold.errors import InputError
from edgefold.exporters.cache_layouts import (
    CacheLayer,
    as_cache,
    cache_argument,
    find_causal_layout,
    find_sequence_layout,
)


def test_grouped_queries_keep_the_heads_of_their_keys() -> None:
    assert find_causal_layout(models.llama()) == (CacheLayer(3, 4, 4),) * 2


def test_an_encoder_decoder_keeps_its_own_and_the_encoders() -> None:
    assert find_sequence_layout(models.t5(), models.texts()) == ((CacheLayer(3, 8, 8),) * 2, (CacheLayer(3, 8, 8),) * 2)
    own, across = find_sequence_layout(models.whisper(), models.features())
    assert own == across == (CacheLayer(3, 8, 8),) * 2


def test_a_student_that_was_saved_and_opened_keeps_less(tmp_path: Path) -> None:
    batch = models.texts()
    plan = Plan([DropLayers(keep=(1,)), Select("heads.*", 2)])
    student = build_student(models.llama(), plan, batch, calibration=[batch])
    opened = load_student(save_student(fold(student), tmp_path / "student"))
    assert find_causal_layout(opened) == (CacheLayer(2, 4, 4),)


def test_a_cache_holds_what_it_was_given() -> None:
    key, value = CacheLayer(3, 4, 5).example(2, 7)
    assert (key.shape, value.shape) == ((2, 3, 7, 4), (2, 3, 7, 5))
    layer = as_cache([(key, value)]).layers[0]
    torch.testing.assert_close((layer.keys, layer.values), (key, value), rtol=0, atol=0)


class Plain(nn.Module):
    def forward(self, ids: Tensor) -> Tensor:
        return ids


def test_modules_without_a_cache_are_refused() -> None:
    with pytest.raises(InputError, match=r"Plain\.forward takes ids, and no cache .* Export it without a cache"):
        cache_argument(Plain())
    with pytest.raises(InputError, match="This student is a traced graph: its sizes were written into forward"):
        cache_argument(torch.fx.symbolic_trace(Plain()))


def test_a_model_with_another_state_is_refused() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=31, hidden_size=16, num_hidden_layers=1, state_size=4)
    with pytest.raises(InputError, match=r"MambaForCausalLM.*(cache of keys and values|keeps another state)"):
        find_causal_layout(MambaForCausalLM(config).eval())
